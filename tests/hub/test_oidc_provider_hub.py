"""
A hub in front of npm's oidc-provider: by its own sign-in, which is all the provider's own work; by exchange and by the
JWT grant, whose handlers there are ours; and with people whose tokens are opaque.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import oidc_provider as npm
import pytest
import raw_oauth
import running_hub
from identity_provider import FLYTE
from kubernetes_issuer import KubernetesIssuer, kubernetes_issuer
from provider_suite import (
    Setting,
    eight_tasks_cost_one_refresh,
    fresh,
    speaks_for,
    what_ends_there_ends_here,
    what_is_revoked_is_revoked_there,
)
from running_hub import Hub

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

LIFETIME = 60
LEAST = 58


@pytest.fixture(scope="module")
def trusted() -> Iterator[KubernetesIssuer]:
    """Whose word the provider takes: the hub's own, in the test of `on_behalf_of`."""
    with kubernetes_issuer() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def setting(trusted: KubernetesIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    directory = tmp_path_factory.mktemp("oidc-provider")
    with (
        npm.oidc_provider(directory, trusted=[trusted.url], lifetime=LIFETIME) as provider,
        running_hub.world() as world,
    ):

        def refreshes() -> int:
            return provider.process.log.read_text().count('{"granted":"refresh_token","client":"authagent-hub"}')

        people = {"issuer": provider.issuer, "audience": npm.HUB, "clients": ["authagent-cli"]}
        yield Setting(provider, world, "alice", refreshes, people, {}, more=f"&resource={quote(npm.HUB)}")


@pytest.fixture(params=["page", "exchange"])
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


def test_on_behalf_of_keeps_nothing(setting: Setting, trusted: KubernetesIssuer, tmp_path: Path) -> None:
    pem, kid = trusted.private_key()
    file = tmp_path / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(pem)
    own = {"assertion_key_file": str(file), "assertion_issuer": trusted.url, "assertion_key_id": kid}
    with running_hub.running(setting.world, **setting.changed("on_behalf_of", **own)) as hub:
        grant = setting.granted(hub)
        speaks_for(setting, hub, grant["execution"])
        assert setting.kept(hub, grant["execution"]) is None
        hub.revoke(setting.token(), id=grant["id"])
        assert hub.ask(setting.world.pod_of(grant["execution"])).status == 400


@pytest.mark.parametrize("kind", ["Flyte's", "the hub's own", "an ID token", "opaque"])
def test_no_other_token_deposits(setting: Setting, hub: Hub, kind: str) -> None:
    execution = setting.world.admin.launch(fresh(), setting.subject)
    match kind:
        case "Flyte's":
            token = setting.token(more=f"&resource={quote(FLYTE)}")
        case "the hub's own":
            token = hub.ask(setting.world.pod_of(setting.granted(hub)["execution"])).json()["access_token"]
        case "an ID token":
            token = setting.signed_in()["id_token"]
        case _:
            token = setting.token(more=f"&resource={quote(npm.OPAQUE)}")
    assert hub.deposit(token, execution).status == 401


def test_people_with_opaque_tokens_are_asked_about(setting: Setting) -> None:
    """RFC 7662. The tokens of tasks are JWTs all the same, for Flyte takes no others."""
    changed = setting.changed("page")
    asking = {key: changed["upstream"][key] for key in ("client_id", "client_secret_file")}
    people: dict[str, Any] = {"audience": npm.OPAQUE, "introspect": True, "introspection": asking}
    changed["hub"] = {"people": setting.people | people}
    opaque = Setting(
        setting.provider, setting.world, setting.subject, setting.refreshes, people, {},
        more=f"&resource={quote(npm.OPAQUE)}",
    )  # fmt: skip
    with running_hub.running(setting.world, **changed) as hub:
        assert "." not in opaque.token()
        grant = opaque.granted(hub)
        speaks_for(opaque, hub, grant["execution"])
        for wrong in (opaque.token() + "x", setting.token(), setting.token(more=f"&resource={quote(FLYTE)}")):
            assert hub.get("/grants", wrong).status == 401
        over = opaque.token()
        assert hub.get("/grants", over).status == 200
        fields = {"client_id": "authagent-cli", "token": over}
        raw_oauth.post(setting.provider.revocation_endpoint, fields).raise_for_status()
        assert hub.get("/grants", over).status == 401


def test_it_names_itself_in_its_answers(setting: Setting) -> None:
    """RFC 9207, which the hub then insists on."""
    assert setting.provider.metadata["authorization_response_iss_parameter_supported"] is True
