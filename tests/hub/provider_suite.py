"""What a hub must do with any identity provider that is written by other people, in each way that it offers."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import raw_oauth
import requests
from consenting import Surfer, title
from identity_provider import FLYTE, Client, IdentityProvider
from login_pages import Visitor
from running_hub import Hub, World, says, wait_for
from test_grants import fresh

from flytekitplugins.authagent.hub.seal import Seal
from flytekitplugins.authagent.hub.store import Store

REDIRECT = "http://127.0.0.1:53593/callback"


@dataclass
class Setting:
    """
    A provider, a world around hubs, and alice, whom tokens call `subject`.

    `refreshes`: how often the hub's client refreshed, so far. `more` is what people's request for a code has beside.
    """

    provider: IdentityProvider
    world: World
    subject: str
    refreshes: Callable[[], int]
    people: dict[str, Any]
    upstream: dict[str, Any]
    more: str = ""
    hub_client: Client = field(init=False)

    def __post_init__(self) -> None:
        self.hub_client = self.provider.clients["hub"]

    def token(self, client: str = "cli", more: str | None = None) -> str:
        """An access token of alice's, who signs in at `client`."""
        return str(self.signed_in(client, more)["access_token"])

    def signed_in(self, client: str = "cli", more: str | None = None) -> dict[str, Any]:
        who = self.provider.clients[client]
        request = raw_oauth.code_request(self.provider, who, redirect=REDIRECT, scope="openid")
        url = request.url + (self.more if more is None else more)
        answer = request.redeem(self.provider, Visitor(self.provider.users["alice"]).approve(url, redirect=REDIRECT))
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def changed(self, way: str, **more: Any) -> dict[str, Any]:
        """For `running_hub.running`."""
        secret = self.world.directory / "idp.secret"
        secret.write_text(self.hub_client.secret or "")
        secret.chmod(0o600)
        own = {"issuer": self.provider.issuer, "client_id": self.hub_client.id, "client_secret_file": str(secret)}
        upstream = {"consent": way, "audience": None, "resource": FLYTE, **own, **self.upstream, **more}
        return {"upstream": upstream, "hub": {"people": self.people}}

    def granted(self, hub: Hub, execution: str | None = None) -> dict[str, Any]:
        """An active grant of alice's for an execution that runs, whatever she has to do for it."""
        execution = self.world.admin.launch(execution or fresh(), self.subject)
        reply = hub.deposit(self.token(), execution)
        assert reply.status in (201, 202), (reply.body, hub.log.read_text())
        grant = dict(reply.json())
        if grant["status"] == "pending":
            surfer = Surfer()
            alice = Visitor(self.provider.users["alice"])
            back = alice.approve(surfer.begin(grant["consent_uri"]), redirect=f"{hub.url}/consent/callback")
            done = surfer.hub.get(back)
            assert title(done) == "Allowed", (done.body, hub.log.read_text())
            grant = hub.get(f"/grants/{grant['id']}", self.token()).json()
        assert (grant["status"], grant["subject"]) == ("active", self.subject)
        return grant

    def kept(self, hub: Hub, execution: str) -> str | None:
        """The refresh token that the hub keeps: read while it does not run, with its key."""
        hub.stop()
        store = Store(hub.content["hub"]["store"], Seal.from_file(Path(hub.content["hub"]["keys_file"])))
        store.start()
        try:
            held = store.of_execution(execution)
            assert held
            return held.tokens.refresh.reveal() if held.tokens.refresh else None
        finally:
            store.close()
            hub.start()

    def refresh(self, token: str) -> requests.Response:
        return raw_oauth.token(self.provider, self.hub_client, grant_type="refresh_token", refresh_token=token)

    def is_active(self, token: str) -> bool:
        fields, headers = raw_oauth.authentication(self.provider, self.hub_client)
        shown = fields | {"token": token, "token_type_hint": "refresh_token"}
        return bool(raw_oauth.post(self.provider.introspection_endpoint, shown, headers).json()["active"])

    def revoke(self, token: str) -> None:
        """As the person, or an administrator, may have it done."""
        fields, headers = raw_oauth.authentication(self.provider, self.hub_client)
        raw_oauth.post(self.provider.revocation_endpoint, fields | {"token": token}, headers).raise_for_status()


def speaks_for(setting: Setting, hub: Hub, execution: str) -> None:
    said = says(hub.ask(setting.world.pod_of(execution)))
    checked = raw_oauth.claims(setting.provider, hub.ask(setting.world.pod_of(execution)).json()["access_token"])
    assert (said["sub"], said["scp"], checked["sub"]) == (setting.subject, ["all"], setting.subject)
    assert said["aud"] in (FLYTE, [FLYTE])
    assert said.get("azp", said.get("client_id")) == setting.hub_client.id


def eight_tasks_cost_one_refresh(setting: Setting, hub: Hub, execution: str, least: int) -> None:
    """Three times: a rotating refresh token that was spent twice, or lost, would be noticed by the third."""
    pods = [setting.world.pod_of(execution) for _ in range(8)]
    seen = set()
    for round_ in range(1, 4):
        time.sleep(2.5)
        before = setting.refreshes()
        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(lambda pod: hub.ask(pod, min_lifetime=str(least)), pods))
        assert {reply.status for reply in replies} == {200}, [reply.body for reply in replies]
        seen |= {reply.json()["access_token"] for reply in replies}
        assert len(seen) == round_
        assert setting.refreshes() - before == 1


def what_is_revoked_is_revoked_there(setting: Setting, hub: Hub, grant: dict[str, Any]) -> None:
    kept = setting.kept(hub, grant["execution"])
    assert kept
    assert setting.is_active(kept)
    reply = hub.revoke(setting.token(), id=grant["id"])
    assert (reply.status, reply.json()["status"], reply.json()["revocation"]) == (200, "ended", "done")
    assert not setting.is_active(kept)
    refused = setting.refresh(kept)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert hub.ask(setting.world.pod_of(grant["execution"])).status == 400


def what_ends_there_ends_here(setting: Setting, hub: Hub, grant: dict[str, Any], least: int) -> None:
    """`lost`, and the person is asked for again."""
    time.sleep(2.5)
    reply = hub.ask(setting.world.pod_of(grant["execution"]), min_lifetime=str(least))
    assert (reply.status, reply.json()["error"]) == (400, "unauthorized_client"), reply.body
    assert "must consent again" in reply.json()["error_description"]
    found: dict[str, Any] = wait_for(lambda: _ended(setting, hub, grant["id"]))
    assert (found["status"], found["reason"]) == ("ended", "lost")
    assert setting.granted(hub, grant["execution"])["id"] != grant["id"]
    speaks_for(setting, hub, grant["execution"])


def _ended(setting: Setting, hub: Hub, grant_id: str) -> dict[str, Any] | None:
    found = dict(hub.get(f"/grants/{grant_id}", setting.token()).json())
    return found if found["status"] == "ended" else None
