"""The dialects of Okta, Entra ID, Google and Auth0, by recorded shapes (see `recorded_shapes`): not their servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey
from recorded_shapes import Form, always, answering
from tokens import jwt

from flytekitplugins.authagent import providers
from flytekitplugins.authagent.credential import Credential, Secret, claims
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderError
from flytekitplugins.authagent.oauth.target import Target
from flytekitplugins.authagent.providers import Wanted, login
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.specs import ClientCredentialsSpec, DeviceSpec, TokenExchangeSpec
from flytekitplugins.authagent.terminal import Terminal

DISCOVERY = "/.well-known/openid-configuration"


def secret(tmp_path: Path) -> dict[str, Any]:
    file = tmp_path / "secret"
    file.write_text("pl4nted-secret")
    file.chmod(0o600)
    return {"client_id": "flyte", "client_secret_file": file}


def fetch(spec: Any) -> Credential:
    found = providers.build(spec, {}, in_pod=False).fetch(Wanted())
    assert found is not None
    return found


def refused(spec: Any, says: str, kind: type[AuthAgentError] = Denied) -> str:
    """The error, which shows neither the secret nor what the answer holds beside its code and its words."""
    with pytest.raises(kind, match=says) as caught:
        fetch(spec)
    assert "pl4nted" not in str(caught.value)
    return str(caught.value)


# Okta: a custom authorization server. https://developer.okta.com/docs/reference/api/oidc/


def okta(base: str) -> dict[str, Any]:
    issuer = f"{base}/oauth2/default"
    token = jwt(
        ver=1, iss=issuer, aud="https://flyte.example.com", cid="flyte", sub="flyte", scp=["all"], iat=1, exp=3601
    )
    return {
        f"/oauth2/default{DISCOVERY}": always(200, {"issuer": issuer, "token_endpoint": f"{issuer}/v1/token"}),
        "/oauth2/default/v1/token": always(
            200, {"token_type": "Bearer", "expires_in": 3600, "access_token": token, "scope": "all"}
        ),
    }


def test_okta_has_scp_as_flyteadmin_reads_it(tmp_path: Path) -> None:
    with answering(okta) as idp:
        found = fetch(ClientCredentialsSpec(issuer=f"{idp.base}/oauth2/default", scopes=("all",), **secret(tmp_path)))
        assert found.scopes == ("all",)
        assert idp.forms("/oauth2/default/v1/token") == [{"grant_type": "client_credentials", "scope": "all"}]


def test_okta_wants_assertions_addressed_to_its_endpoint(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256")
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)
    with answering(okta) as idp:
        issuer = f"{idp.base}/oauth2/default"
        options: dict[str, Any] = {"issuer": issuer, "client_id": "flyte", "private_key_file": file}
        fetch(ClientCredentialsSpec(**options, assertion_audience="token_endpoint"))
        fetch(ClientCredentialsSpec(**options))
        forms = idp.forms("/oauth2/default/v1/token")
    audiences = [claims(Secret(form["client_assertion"]))["aud"] for form in forms]
    assert audiences == [f"{issuer}/v1/token", issuer]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (
            401,
            {"error": "invalid_client", "error_description": "The client secret supplied is invalid."},
            "invalid_client",
        ),
        (
            400,
            {"error": "invalid_scope", "error_description": "Custom scopes are not allowed for this request."},
            "invalid_scope",
        ),
        (401, {"errorCode": "invalid_client", "errorSummary": "Invalid value", "errorId": "pl4nted"}, "invalid_client"),
    ],
)
def test_oktas_refusals_in_both_spellings(tmp_path: Path, status: int, body: Any, says: str) -> None:
    with answering(okta) as idp:
        idp.routes["/oauth2/default/v1/token"] = always(status, body)
        refused(ClientCredentialsSpec(issuer=f"{idp.base}/oauth2/default", **secret(tmp_path)), says)


# Entra ID: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow and its neighbours

TENANT = "11111111-2222-3333-4444-555555555555"


def entra(base: str) -> dict[str, Any]:
    v1, v2 = f"https://sts.windows.net/{TENANT}/", f"{base}/{TENANT}/v2.0"
    app = jwt(iss=v2, aud="api://flyte", azp="flyte", sub="flyte", roles=["all"], iat=1, exp=3600)
    person = jwt(iss=v2, aud="api://flyte", azp="flyte", sub="alice", scp="all", iat=1, exp=3600)

    def token(form: Form) -> tuple[int, Any]:
        if form.get("requested_token_use") == "on_behalf_of":
            return 200, {"token_type": "Bearer", "scope": "api://flyte/all", "expires_in": 3599, "access_token": person}
        return 200, {"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": app}

    endpoint = {"token_endpoint": f"{base}/{TENANT}/oauth2/v2.0/token"}
    return {
        f"/{TENANT}/v2.0{DISCOVERY}": always(200, {"issuer": v2, **endpoint}),
        f"/{TENANT}{DISCOVERY}": always(200, {"issuer": v1, **endpoint}),
        f"/common/v2.0{DISCOVERY}": always(200, {"issuer": base + "/{tenantid}/v2.0", **endpoint}),
        f"/{TENANT}/oauth2/v2.0/token": token,
        f"/{TENANT}/oauth2/token": always(
            200, {"token_type": "Bearer", "expires_in": "3599", "expires_on": "1700000000", "access_token": app}
        ),
    }


def test_entras_tenant_is_its_issuer_and_a_pods_token_is_enough(tmp_path: Path) -> None:
    projected = tmp_path / "projected"
    projected.write_text(jwt(iss="https://oidc.aks.example.com", sub="system:serviceaccount:a:b", exp=9e9))
    projected.chmod(0o600)
    with answering(entra) as idp:
        spec = ClientCredentialsSpec(
            issuer=f"{idp.base}/{TENANT}/v2.0",
            client_id="flyte",
            client_assertion_file=projected,
            scopes=("api://flyte/.default",),
        )
        fetch(spec)
        (form,) = idp.forms(f"/{TENANT}/oauth2/v2.0/token")
    assert form == {
        "grant_type": "client_credentials",
        "client_id": "flyte",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": projected.read_text(),
        "scope": "api://flyte/.default",
    }


@pytest.mark.parametrize("path", [f"/{TENANT}", "/common/v2.0"])
def test_entras_other_issuers_do_not_name_themselves(tmp_path: Path, path: str) -> None:
    """The document of v1 speaks for sts.windows.net, that of `common` for a template: neither is what was asked."""
    with answering(entra) as idp:
        refused(ClientCredentialsSpec(issuer=idp.base + path, **secret(tmp_path)), "another issuer", ProviderError)


def test_entras_first_endpoint_quotes_its_numbers(tmp_path: Path) -> None:
    with answering(entra) as idp:
        spec = ClientCredentialsSpec(token_endpoint=f"{idp.base}/{TENANT}/oauth2/token", **secret(tmp_path))
        found = fetch(spec)
        assert found.expires_at is not None


def test_entra_on_behalf_of_a_person_and_when_it_wants_the_person(tmp_path: Path) -> None:
    subject = tmp_path / "subject"
    subject.write_text("pl4nted-subject")
    subject.chmod(0o600)
    with answering(entra) as idp:
        options = {"issuer": f"{idp.base}/{TENANT}/v2.0", "subject_token_file": subject, "grant": "on_behalf_of"}
        spec = TokenExchangeSpec(**options, **secret(tmp_path), scopes=("api://flyte/all",))
        fetch(spec)
        (form,) = idp.forms(f"/{TENANT}/oauth2/v2.0/token")
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert (form["requested_token_use"], form["assertion"]) == ("on_behalf_of", "pl4nted-subject")

        idp.routes[f"/{TENANT}/oauth2/v2.0/token"] = always(
            400,
            {
                "error": "interaction_required",
                "error_description": "AADSTS50079: Due to a configuration change, you must enroll in MFA.",
                "error_codes": [50079],
                "trace_id": "pl4nted-trace",
                "claims": '{"access_token":{"polids":{"essential":true,"values":["pl4nted"]}}}',
            },
        )
        assert "log in to the client once" in refused(spec, "AADSTS50079")


# Google: https://developers.google.com/identity/protocols/oauth2/limited-input-device


def google(base: str) -> dict[str, Any]:
    answers = iter([(428, "authorization_pending"), (403, "slow_down")])

    def token(form: Form) -> tuple[int, Any]:
        for status, code in answers:
            return status, {"error": code, "error_description": "Precondition Required"}
        opaque = "ya29.an-opaque-token"
        return 200, {
            "access_token": opaque,
            "expires_in": 3920,
            "scope": "openid",
            "id_token": jwt(sub="1"),
            "refresh_token": "1//r",
        }

    return {
        DISCOVERY: always(
            200,
            {"issuer": base, "token_endpoint": f"{base}/token", "device_authorization_endpoint": f"{base}/device/code"},
        ),
        "/device/code": always(
            200,
            {
                "device_code": "4/4-GMMhm",
                "user_code": "GQVQ-JKEC",
                "verification_url": "https://www.google.com/device",
                "expires_in": 1800,
                "interval": 5,
            },
        ),
        "/token": token,
    }


def test_googles_device_flow_has_spellings_of_its_own_and_its_token_is_opaque(tmp_path: Path) -> None:
    waited: list[float] = []
    shown: list[str] = []
    with answering(google) as idp:
        spec = DeviceSpec(issuer=idp.base, **secret(tmp_path), client_authentication="client_secret_post")
        terminal = Terminal(shown.append, lambda url: False, lambda: None)
        granted = login.by_device(
            OAuthClient(spec, "device"), Target(("openid",)), terminal, patience=100, sleep=waited.append
        )
    assert "https://www.google.com/device" in "".join(shown)
    assert waited == [5, 5, 10]
    assert granted.refresh_token is not None
    assert granted.credential.id_token is not None
    assert granted.credential.token.reveal().count(".") == 1  # no JWT: flyteadmin cannot verify it


# Auth0: https://auth0.com/docs/api/authentication


def auth0(base: str) -> dict[str, Any]:
    token = jwt(iss=f"{base}/", aud="https://flyte", azp="flyte", sub="flyte@clients", scope="all", iat=1, exp=86401)

    def answer(form: Form) -> tuple[int, Any]:
        if form.get("audience") != "https://flyte":
            return 403, {"error": "access_denied", "error_description": "Service not enabled within domain: none"}
        return 200, {"access_token": token, "scope": "all", "expires_in": 86400, "token_type": "Bearer"}

    return {
        DISCOVERY: always(200, {"issuer": f"{base}/", "token_endpoint": f"{base}/oauth/token"}),
        "/oauth/token": answer,
    }


@pytest.mark.parametrize("slash", ["", "/"])
def test_auth0_wants_an_audience_and_has_a_slash_at_its_end(tmp_path: Path, slash: str) -> None:
    with answering(auth0) as idp:
        options = {"issuer": idp.base + slash, **secret(tmp_path)}
        assert fetch(ClientCredentialsSpec(**options, audience="https://flyte")).scopes == ("all",)
        assert idp.forms("/oauth/token")[0]["audience"] == "https://flyte"
        refused(ClientCredentialsSpec(**options), "access_denied")


def test_what_auth0_gives_for_a_second_factor_is_not_shown(tmp_path: Path) -> None:
    body = {"error": "mfa_required", "error_description": "Multifactor authentication required", "mfa_token": "pl4nted"}
    with answering(auth0) as idp:
        idp.routes["/oauth/token"] = always(403, body)
        refused(ClientCredentialsSpec(issuer=idp.base, **secret(tmp_path)), "mfa_required")


def test_nothing_but_the_documents_and_one_token_is_asked_of_any(tmp_path: Path) -> None:
    asked: dict[str, list[str]] = {}
    for routes, path in ((okta, "/oauth2/default"), (auth0, "")):
        with answering(routes) as idp:
            spec = ClientCredentialsSpec(issuer=idp.base + path, audience="https://flyte", **secret(tmp_path))
            provider = providers.build(spec, {}, in_pod=False)
            provider.fetch(Wanted())
            provider.fetch(Wanted())
            asked[path] = [path for path, _ in idp.asked]
    assert [len(paths) for paths in asked.values()] == [3, 3]
