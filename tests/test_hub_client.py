"""The person's client of a hub: what it asks, what it takes for an answer, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_hub
from scripted_hub import TOKEN, Hub

from flytekitplugins.authagent import config, hub_client
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import (
    AuthAgentError,
    ConfigError,
    Denied,
    ProviderError,
    ProviderUnavailable,
    Rejected,
)
from flytekitplugins.authagent.http import MAX_BODY, Door
from flytekitplugins.authagent.hub_client import HubClient

EXECUTION = "flytesnacks:development:f0123456789abcdef012"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with scripted_hub.running() as it:
        yield it


def client(hub: Hub, *, token: str = TOKEN, timeout: float = 5.0) -> HubClient:
    return HubClient(hub.url, lambda: Secret(token), Door(timeout=timeout))


def test_a_grant_is_given_shown_listed_and_ended(hub: Hub) -> None:
    us = client(hub)
    given = us.deposit(EXECUTION, seconds=60, scopes=["all", "x"])
    assert (given.execution, given.subject, given.status, given.scopes) == (EXECUTION, "alice", "active", ("all", "x"))
    assert given.expires_at - given.created_at == 60
    assert us.get(given.id) == given
    assert us.mine() == (given,)
    ended = us.revoke(given.id)
    assert (ended.status, ended.reason, ended.revocation) == ("ended", "revoked", "pending")
    assert us.revoke_execution(EXECUTION) == ended
    assert hub.forms == [
        {"execution": EXECUTION, "expires_in": "60", "scope": "all x"},
        {"id": given.id},
        {"execution": EXECUTION},
    ]
    assert hub.requests == {"POST /grants": 1, "GET /grants/ID": 1, "GET /grants": 1, "POST /grants/revoke": 2}
    assert hub.authorizations == {f"Bearer {TOKEN}"}


def test_a_launch_that_is_to_come_is_said_so_and_nothing_else_is_sent(hub: Hub) -> None:
    assert not client(hub).deposit(EXECUTION, seconds=60, launch_later=True).launched
    assert client(hub).deposit("p:d:n").launched
    assert hub.forms == [{"execution": EXECUTION, "expires_in": "60", "launch": "later"}, {"execution": "p:d:n"}]


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("status", "body", "kind", "says"),
    [
        (
            400,
            {"error": "invalid_request", "error_description": "24h at most"},
            ConfigError,
            "invalid_request$|less time",
        ),
        (400, {"error": "invalid_scope", "error_description": "not admin"}, Denied, "refused: invalid_scope$"),
        (401, {"error": "invalid_token", "error_description": "too old"}, Rejected, r"take the token \(401\)"),
        (401, None, Rejected, "does not take the token"),
        (403, {"error": "access_denied", "error_description": "bob's"}, Denied, "refused: access_denied$"),
        (404, {"error": "not_found", "error_description": "you have no such grant"}, Denied, "you have no such grant"),
        (409, {"error": "conflict", "error_description": "the execution has ended"}, Denied, "execution has ended"),
        (429, {"error": "temporarily_unavailable"}, ProviderUnavailable, "answered 429"),
        (503, {"error": "temporarily_unavailable", "error_description": "later"}, ProviderUnavailable, "answered 503"),
        (502, None, ProviderUnavailable, "answered 502"),
        (200, None, ProviderError, "an HTML page"),
        (404, None, ProviderError, "an HTML page"),
        (200, [], ProviderError, "something else"),
        (418, {"error": "teapot"}, ProviderError, "answered 418"),
        (307, {}, ProviderError, "a redirect"),
    ],
)
def test_what_each_answer_means(hub: Hub, status: int, body: Any, kind: type[AuthAgentError], says: str) -> None:
    content = b"<!doctype html><html>Log in!</html>" if body is None else json.dumps(body).encode()
    hub.answers["POST /grants"] = (status, JSON | {"location": f"{hub.url}/elsewhere", "retry-after": "7"}, content)
    with pytest.raises(kind, match=says) as caught:
        client(hub).deposit(EXECUTION, seconds=60)
    assert type(caught.value) is kind
    assert TOKEN not in str(caught.value)
    assert "identity provider" not in str(caught.value)
    assert hub.requests == {"POST /grants": 1}  # and no redirect was followed
    if status in (429, 503):
        assert caught.value.hint == "try again in 7 s"


def test_words_of_a_hub_reach_no_terminal_raw_and_never_with_the_token(hub: Hub) -> None:
    hub.answers["GET /grants"] = (
        409,
        JSON,
        json.dumps({"error": "conflict", "error_description": "a\x1b[2Jb"}).encode(),
    )
    with pytest.raises(Denied, match=r"refused: conflict$"):
        client(hub).mine()
    hub.answers["GET /grants"] = (
        409,
        JSON,
        json.dumps({"error": "x\x1b", "error_description": f"no {TOKEN}"}).encode(),
    )
    with pytest.raises(Denied, match=r"refused: an unregistered error code$"):
        client(hub).mine()


def test_a_hub_that_hangs_is_waited_for_as_long_as_said(hub: Hub) -> None:
    hub.answers["GET /grants"] = (None, {}, b"")
    with pytest.raises(ProviderUnavailable, match=r"did not answer in 0\.3 s"):
        client(hub, timeout=0.3).mine()


def test_a_hub_that_is_not_there_is_unavailable(hub: Hub) -> None:
    gone = HubClient("http://127.0.0.1:9", lambda: Secret(TOKEN))
    with pytest.raises(ProviderUnavailable, match="is the hub up"):
        gone.mine()


def test_a_huge_answer_is_not_read_to_its_end(hub: Hub) -> None:
    hub.answers["GET /grants"] = (200, JSON, b" " * (MAX_BODY + 70000))
    with pytest.raises(ProviderError, match="more than"):
        client(hub).mine()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"execution": "flytesnacks:development:other"}, "another execution"),
        ({"execution": "nonsense"}, "execution"),
        ({"id": "../../token"}, "id"),
        ({"id": 5}, "id"),
        ({"status": "granted"}, "status"),
        ({"status": "ended"}, "has ended"),
        ({"status": "pending"}, "does not say where"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": 1e300}, "expires_at"),
        ({"expires_at": True}, "expires_at"),
        ({"expires_at": 1.5}, "expires_at"),
        ({"launched": "yes"}, "launched"),
        ({"children": -1}, "children"),
        ({"subject": "al\x1b[31mice"}, "subject"),
        ({"subject": None}, "subject"),
        ({"reason": "\u202egnp"}, "reason"),
        ({"scope": ["all"]}, "scope"),
        ({"revocation": ""}, "revocation"),
        ({"interval": 0}, "interval"),
        ({"interval": "soon"}, "interval"),
    ],
)
def test_what_is_no_grant_is_none(hub: Hub, changes: dict[str, Any], says: str) -> None:
    hub.changes = changes
    with pytest.raises(ProviderError, match=says):
        client(hub).deposit(EXECUTION, seconds=60)


def test_a_newer_hub_may_say_more_and_an_interval_has_bounds(hub: Hub) -> None:
    hub.changes = {"newer": {"than": "we"}, "interval": 1e6}
    assert client(hub).deposit(EXECUTION, seconds=60).interval == 30
    hub.changes = {"interval": 0.001}
    assert client(hub).deposit(EXECUTION, seconds=60).interval == 1


@pytest.mark.parametrize(
    "page",
    [
        "javascript:alert(1)",
        "https://evil.example.com/consent/x",
        "//127.0.0.1/consent/x",
        "file:///etc/passwd",
        "http://127.0.0.1:1/consent/x",
        "{origin}@evil.example.com/consent/x",
        "http://user@{host}/consent/x",
        "{origin}/consent/x\x1b[2J",
        "{origin}/consent/x y",
        "{origin}\\@evil.example.com/",
        "https://{host}/consent/x",
        "http://[::1/consent",
        "",
        5,
    ],
)
def test_only_a_page_of_the_hub_itself_is_shown_to_anybody(hub: Hub, page: Any) -> None:
    hub.consent = 1
    host = hub.url.removeprefix("http://")
    hub.changes = {"consent_uri": page.format(origin=hub.url, host=host) if isinstance(page, str) else page}
    with pytest.raises(ProviderError, match="a page that is not its own"):
        client(hub).deposit(EXECUTION, seconds=60)


def test_the_page_of_the_hub_is_its_own_with_or_without_the_default_port() -> None:
    answer = scripted_hub.Hub().give(EXECUTION, status="pending")
    page = "https://hub.example.com:443/consent/1"
    assert hub_client.grant(answer | {"consent_uri": page}, "https://hub.example.com").consent_uri == page


def test_the_answer_about_another_grant_is_refused(hub: Hub) -> None:
    one, us = hub.give(EXECUTION), client(hub)
    hub.changes = {"id": "another"}
    for ask in (us.get, us.revoke):
        with pytest.raises(ProviderError, match="another grant"):
            ask(one["id"])
    hub.changes = {"execution": "a:b:c"}
    with pytest.raises(ProviderError, match="another execution"):
        us.revoke_execution(EXECUTION)


@pytest.mark.parametrize("body", [{}, {"grants": None}, {"grants": ["x"]}, {"grants": [{}]}])
def test_what_is_no_list_of_grants_is_none(hub: Hub, body: Any) -> None:
    hub.answers["GET /grants"] = (200, JSON, json.dumps(body).encode())
    with pytest.raises(ProviderError):
        client(hub).mine()


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        (hub_client.check_execution, ["", "a:b", "a:b:c:d", "a::c", "a:b:c d", "a:b:c\n", ":b:c", "a:b:" + "c" * 300]),
        (hub_client.check_id, ["", "a/b", "..", "a b", "x" * 129, "a%2f"]),
    ],
)
def test_names_are_checked_before_anything_is_sent(call: Callable[[str], str], wrong: list[str]) -> None:
    for text in wrong:
        with pytest.raises(ConfigError):
            call(text)


def test_what_the_hub_says_of_itself(hub: Hub) -> None:
    said = hub_client.describe(hub.url, Door())
    assert (said.resource, said.issuer, said.scopes) == ("authagent-hub", "https://idp.example.com", ())
    assert hub.authorizations == {""}
    for body in (
        {},
        {"resource": "x"},
        {"resource": 5, "authorization_servers": ["y"]},
        {"authorization_servers": "y"},
    ):
        hub.answers["GET /.well-known/oauth-protected-resource"] = (200, JSON, json.dumps(body).encode())
        with pytest.raises(ProviderError):
            hub_client.describe(hub.url, Door())


def test_nothing_of_the_client_shows_a_token() -> None:
    us = HubClient("https://hub.example.com", lambda: Secret(TOKEN))
    assert TOKEN not in repr(us) + repr(hub_client.request(us.url, Secret(TOKEN), [("id", "1")]))


def settings(directory: Path, content: str, **environ: str) -> config.Settings:
    file = directory / "authagent.yaml"
    file.write_text(content)
    file.chmod(0o600)
    return config.load({"AUTHAGENT_CONFIG": str(file), "HOME": str(directory), **environ})


HUB = """\
hub:
  url: https://hub.example.com/
  audience: authagent-hub
  provider: {kind: pkce, issuer: https://idp.example.com, client_id: authagent-cli, scopes: [openid]}
"""


def test_the_hub_is_configured_in_the_file_and_by_two_variables(tmp_path: Path) -> None:
    written = settings(tmp_path, HUB).hub
    assert written and written.provider
    assert (written.url, written.audience, written.provider.kind) == (
        "https://hub.example.com",
        "authagent-hub",
        "pkce",
    )
    token = tmp_path / "token"
    token.write_text("abc")
    token.chmod(0o600)
    said = settings(tmp_path, HUB, AUTHAGENT_HUB="http://127.0.0.1:1", AUTHAGENT_HUB_TOKEN_FILE=str(token)).hub
    assert said and said.provider
    assert (said.url, said.audience, said.provider.kind) == ("http://127.0.0.1:1", "authagent-hub", "file")
    alone = config.load({"HOME": str(tmp_path), "AUTHAGENT_HUB": "https://h.example.com"}).hub
    assert alone and alone.provider is None
    assert config.load({"HOME": str(tmp_path), "AUTHAGENT_HUB_TOKEN_FILE": str(token)}).hub is None


@pytest.mark.parametrize(
    ("content", "environ", "says"),
    [
        (HUB.replace("audience:", "audiance:"), {}, "line 3: hub.audiance: unknown key"),
        (HUB.replace("  url: https://hub.example.com/\n", ""), {}, "line 1: hub.url: is missing"),
        (HUB.replace("https://hub", "http://hub"), {}, "line 2: hub.url: .* is not an https URL"),
        (HUB.replace("https://hub", "https://me:pw@hub"), {}, "line 2: hub.url: .* holds credentials"),
        (HUB.replace("com/\n", "com/?a=b\n"), {}, "line 2: hub.url: must be a plain URL"),
        (HUB.replace("kind: pkce", "kind: pkec"), {}, "line 4: hub.provider"),
        (HUB.replace("openid]", "openid], secret: x"), {}, "line 4: hub.provider.secret: unknown key"),
        (HUB + "  client_id: x\n", {}, "line 1: hub: has a provider and a client_id"),
        (HUB + "  ca_file: ca.pem\n", {}, "line 5: hub.ca_file: must be an absolute path"),
        (HUB, {"AUTHAGENT_HUB": "http://hub.example.com"}, "AUTHAGENT_HUB cannot be used"),
        (HUB, {"AUTHAGENT_HUB_TOKEN_FILE": "token"}, "AUTHAGENT_HUB_TOKEN_FILE .* must be an absolute path"),
        (HUB, {"AUTHAGENT_HUB_TOKEN_FILE": "/nowhere"}, "AUTHAGENT_HUB_TOKEN_FILE names /nowhere, which is not there"),
    ],
)
def test_what_cannot_be_used_is_an_error_with_its_place(
    tmp_path: Path, content: str, environ: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        settings(tmp_path, content, **environ)
    assert "pw" not in str(caught.value)
