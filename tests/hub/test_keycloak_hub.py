"""
A hub in front of Keycloak: by standard token exchange, by its own sign-in, and by the JWT grant.

Every test of a hub that needs Keycloak belongs here: a file is one worker's, so there is one Keycloak.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keycloak as keycloak_peer
import pytest
import raw_oauth
import running_hub
from joserfc.jwk import RSAKey
from keycloak_realm import HUB, subject
from kubernetes_issuer import kubernetes_issuer
from provider_suite import (
    Setting,
    eight_tasks_cost_one_refresh,
    fresh,
    speaks_for,
    what_ends_there_ends_here,
    what_is_revoked_is_revoked_there,
)
from running_hub import Hub

pytestmark = [pytest.mark.peer, pytest.mark.timeout(240)]

LIFETIME = 60
LEAST = 58
HUBS_ISSUER = "https://hub.example.com"


@pytest.fixture(scope="module")
def key() -> RSAKey:
    return RSAKey.generate_key(2048)


@pytest.fixture(scope="module")
def setting(key: RSAKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    directory = tmp_path_factory.mktemp("keycloak")
    own = (HUBS_ISSUER, key.as_pem(private=False).decode())
    with (
        kubernetes_issuer() as cluster,
        keycloak_peer.keycloak(directory, cluster=cluster.url, lifetime=LIFETIME, hub=own) as provider,
        running_hub.world() as world,
    ):

        def refreshes() -> int:
            lines = provider.process.log.read_text().splitlines()
            return sum('type="REFRESH_TOKEN"' in line and f'clientId="{HUB}"' in line for line in lines)

        people = {"issuer": provider.issuer, "audience": HUB, "clients": ["authagent-cli"]}
        yield Setting(provider, world, subject(provider.users["alice"]), refreshes, people, {})


@pytest.fixture(params=["exchange", "page"])
def hub(request: pytest.FixtureRequest, setting: Setting) -> Iterator[Hub]:
    with running_hub.running(setting.world, **setting.changed(request.param)) as made:
        yield made


def test_a_task_speaks_for_the_person_who_consented(setting: Setting, hub: Hub) -> None:
    speaks_for(setting, hub, setting.granted(hub)["execution"])


def test_eight_tasks_at_once_cost_one_refresh_and_the_rotation_goes_on(setting: Setting, hub: Hub) -> None:
    eight_tasks_cost_one_refresh(setting, hub, setting.granted(hub)["execution"], LEAST)


def test_what_is_revoked_here_is_revoked_there(setting: Setting, hub: Hub) -> None:
    what_is_revoked_is_revoked_there(setting, hub, setting.granted(hub))


def test_what_ends_there_ends_here(setting: Setting, hub: Hub) -> None:
    grant = setting.granted(hub)
    kept = setting.kept(hub, grant["execution"])
    assert kept
    setting.revoke(kept)
    what_ends_there_ends_here(setting, hub, grant, LEAST)


def test_whoever_signs_out_ends_what_was_exchanged(setting: Setting) -> None:
    """An exchange gives a token of the person's own session (SAME_SESSION), which ends with that."""
    with running_hub.running(setting.world, **setting.changed("exchange")) as hub:
        session, execution = setting.signed_in(), setting.world.admin.launch(fresh(), setting.subject)
        grant = hub.deposit(session["access_token"], execution).json()
        speaks_for(setting, hub, execution)
        form = {"client_id": "authagent-cli", "refresh_token": session["refresh_token"]}
        raw_oauth.post(setting.provider.metadata["end_session_endpoint"], form).raise_for_status()
        what_ends_there_ends_here(setting, hub, grant, LEAST)


def test_whoever_signs_out_keeps_what_was_allowed_on_the_page(setting: Setting) -> None:
    """It is an offline session of its own."""
    with running_hub.running(setting.world, **setting.changed("page")) as hub:
        session = setting.signed_in()
        execution = setting.granted(hub)["execution"]
        form = {"client_id": "authagent-cli", "refresh_token": session["refresh_token"]}
        raw_oauth.post(setting.provider.metadata["end_session_endpoint"], form).raise_for_status()
        eight_tasks_cost_one_refresh(setting, hub, execution, LEAST)


def test_on_behalf_of_keeps_nothing_and_asks_each_time(setting: Setting, key: RSAKey, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(key.as_pem(private=True))
    own = {"assertion_key_file": str(file), "assertion_issuer": HUBS_ISSUER}
    with running_hub.running(setting.world, **setting.changed("on_behalf_of", **own)) as hub:
        grant = setting.granted(hub)
        speaks_for(setting, hub, grant["execution"])
        assert setting.kept(hub, grant["execution"]) is None
        before = setting.refreshes()
        hub.revoke(setting.token(), id=grant["id"])
        assert hub.ask(setting.world.pod_of(grant["execution"])).status == 400
        assert setting.refreshes() == before


@pytest.mark.parametrize("kind", ["Flyte's", "the hub's own", "an ID token"])
def test_no_other_token_deposits(setting: Setting, hub: Hub, kind: str) -> None:
    execution = setting.world.admin.launch(fresh(), setting.subject)
    match kind:
        case "Flyte's":
            token = setting.token("app")
        case "the hub's own":
            token = hub.ask(setting.world.pod_of(setting.granted(hub)["execution"])).json()["access_token"]
        case _:
            token = setting.signed_in()["id_token"]
    assert hub.deposit(token, execution).status == 401


def test_scopes_that_nobody_asked_for_are_refused_and_nothing_is_left(setting: Setting) -> None:
    """Keycloak tells every default scope that is to be told; those of client `exchange` are, those of the hub's not."""
    client = setting.provider.clients["exchange"]
    secret = setting.world.directory / "exchange.secret"
    secret.touch(mode=0o600)
    secret.write_text(client.secret or "")
    own = {"client_id": client.id, "client_secret_file": str(secret), "resource": None}
    changed = setting.changed("exchange", **own)
    changed["hub"] = {"people": setting.people | {"audience": client.id, "clients": ["app"]}}
    with running_hub.running(setting.world, **changed) as hub:
        execution = setting.world.admin.launch(fresh(), setting.subject)
        reply = hub.deposit(setting.token("app"), execution)
        assert (reply.status, reply.json()["error"]) == (503, "temporarily_unavailable"), reply.body
        refused = hub.records(event="person", outcome="temporarily_unavailable")
        assert "more scopes than were asked for: basic, flyte" in refused[0]["reason"]
        assert hub.ask(setting.world.pod_of(execution)).status == 400
    log = setting.provider.process.log.read_text().splitlines()
    assert sum('type="REVOKE_GRANT"' in line and 'clientId="exchange"' in line for line in log) == 1


def test_it_names_itself_in_its_answers(setting: Setting) -> None:
    """RFC 9207, which the hub then insists on."""
    assert setting.provider.metadata["authorization_response_iss_parameter_supported"] is True
