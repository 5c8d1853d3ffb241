"""The sandbox with a hub: its options, the hub's configuration, and what is where once all of it answers."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml
from consenting import Surfer
from flyteidl.admin import common_pb2
from joserfc import jwt
from joserfc.jwk import RSAKey
from running_control_plane import Stubs
from running_provider import FORM, Running, basic, running, send
from templates import PROJECT, ended, launched, ran, register, script
from test_sandbox_run import SANDBOX, get_version, left_behind, started

from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.cli import sandbox as cli
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.sandbox.cluster import Cluster
from flytekitplugins.authagent.sandbox.dialect import HUB_AUDIENCE, PUBLIC_URL
from flytekitplugins.authagent.sandbox.hub_process import CONSENTS, HubProcess
from flytekitplugins.authagent.sandbox.posture import POSTURES
from flytekitplugins.authagent.sandbox.sandbox import Sandbox
from flytekitplugins.authagent.sandbox.session import Options

pytestmark = pytest.mark.timeout(180)

JWT = "urn:ietf:params:oauth:token-type:jwt"
BY_ASSERTION = {
    "jwt_bearer": ("urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion", {}),
    "token_exchange": (
        "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token",
        {"subject_token_type": JWT},
    ),
}


# Options


def test_the_command_line_knows_every_way_to_ask_for_consent():
    action = next(action for action in cli._parser()._actions if action.dest == "consent")

    assert tuple(action.choices) == CONSENTS
    assert action.default is Options().consent is None
    assert Options(hub=True, posture="external").consent_of_hub == CONSENTS[0]


@pytest.mark.parametrize("posture", ["internal", "no-auth"])
def test_a_hub_needs_a_provider_that_issues_tokens_for_people(posture):
    with pytest.raises(ConfigError, match=f"--posture {posture}: .* cannot exchange tokens") as refused:
        Options(hub=True, posture=posture).consent_of_hub  # noqa: B018 - it checks
    assert refused.value.hint == "--posture external"


@pytest.mark.parametrize("posture", POSTURES)
def test_there_is_no_hub_unless_somebody_wants_one(posture):
    with pytest.raises(ConfigError, match="none is wanted"):
        Options(posture=posture, consent="page").consent_of_hub  # noqa: B018 - as above


def test_a_hub_that_cannot_be_is_refused_before_anything_starts(tmp_path):
    ready = tmp_path / "ready.json"
    done = subprocess.run(
        [*SANDBOX, "--hub", "--ready", str(ready), "--", "true"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "--posture external" in done.stderr
    assert "Traceback" not in done.stderr
    assert not ready.exists()


# The hub's configuration


@pytest.fixture(scope="module")
def provider() -> Iterator[Running]:
    with running("external") as it:
        yield it


def configured(directory: Path, provider: Running, consent: str) -> tuple[HubProcess, dict[str, Any], Cluster]:
    """A hub that is not started, what it is told, and whom it asks about pods."""
    hub, cluster = HubProcess(directory, consent), Cluster()
    cluster.stop()
    return hub, {"socket": str(hub.socket), **hub.configuration(provider.issuer, cluster, "127.0.0.1:1")}, cluster


@pytest.mark.parametrize("consent", CONSENTS)
def test_the_hub_is_configured_as_an_operator_would_do_it(tmp_path, provider: Running, consent):
    hub, configuration, cluster = configured(tmp_path, provider, consent)

    file = AgentFile.model_validate(yaml.safe_load(yaml.safe_dump(configuration)))
    assert (file.listen, file.hub.url, file.attestor) == (hub.url, hub.url, "kubernetes")
    assert file.kubernetes.api_server == cluster.url
    assert (file.hub.people.issuer, file.hub.people.audience) == (provider.issuer.issuer, HUB_AUDIENCE)
    people = file.upstreams["people"]
    assert (people.kind, people.consent, people.client_id, people.audience) == ("grant", consent, "hub", PUBLIC_URL)
    assert file.upstreams["service"].client_id == "flyte-agent"
    assert file.rules[0].give.otherwise is None


@pytest.mark.parametrize("consent", CONSENTS)
def test_its_secrets_stand_in_files_that_are_ours_alone(tmp_path, provider: Running, consent):
    _, configuration, cluster = configured(tmp_path, provider, consent)

    told = yaml.safe_dump(configuration)
    for secret in (provider.secret("hub"), provider.secret("flyte-agent"), cluster.token.reveal(), "PRIVATE"):
        assert secret not in told
    written = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    expected = {"hub.secret", "flyte-agent.secret", "hub.cluster-token", "hub.keys"}
    assert written == dict.fromkeys(expected | ({"hub.pem"} if consent == "on_behalf_of" else set()), 0o600)


def test_the_key_that_seals_is_the_same_when_it_starts_again(tmp_path, provider: Running):
    hub, _, cluster = configured(tmp_path, provider, "exchange")
    before = (tmp_path / "hub.keys").read_bytes()
    hub.configuration(provider.issuer, cluster, "127.0.0.1:1")

    assert (tmp_path / "hub.keys").read_bytes() == before


@pytest.mark.parametrize("grant", BY_ASSERTION)
@pytest.mark.parametrize("user", ["alice", "mallory", "nobody"])
def test_on_behalf_of_somebody_the_provider_believes_the_hub(tmp_path, user, grant):
    hub = HubProcess(tmp_path, "on_behalf_of")
    with running("external", trusted=hub.trusted()) as it:
        upstream = hub.configuration(it.issuer, Cluster(), "127.0.0.1:1")["upstreams"]["people"]
        key = RSAKey.import_key(Path(upstream["assertion_key_file"]).read_bytes())
        claims = {"iss": upstream["assertion_issuer"], "sub": user, "aud": it.issuer.issuer, "exp": time.time() + 60}
        signed = jwt.encode({"alg": "RS256", "kid": upstream["assertion_key_id"]}, claims, key)
        grant_type, name, more = BY_ASSERTION[grant]
        form = {"grant_type": grant_type, name: signed, "audience": PUBLIC_URL, "scope": "all", **more}

        by_the_hub = it.ask(form, basic("hub", it.secret("hub")))

        if user == "nobody":
            assert by_the_hub.status == 400
            return
        claims = it.read(by_the_hub.json()["access_token"]).claims
        assert (claims["sub"], claims["client_id"], claims["aud"]) == (user, "hub", PUBLIC_URL)
        assert it.ask({**form, "client_id": "hub"}).status == 401  # its word alone is not enough


@pytest.mark.parametrize("consent", ["exchange", "page"])
def test_else_the_provider_believes_no_hub(tmp_path, consent):
    assert HubProcess(tmp_path, consent).trusted() == []


# All of it


@pytest.fixture(scope="module", params=CONSENTS)
def sandbox(request, tmp_path_factory) -> Iterator[Sandbox]:
    it = Sandbox(tmp_path_factory.mktemp("hub"), POSTURES["external"], slots=4, consent=request.param)
    try:
        it.start()
        yield it
    finally:
        it.stop()


def stubs_of(sandbox: Sandbox, user: str) -> Stubs:
    """What somebody calls Flyte with."""
    token = (sandbox.directory / f"{user}.token").read_text()
    return Stubs(sandbox.control_plane.endpoint, {"authorization": f"Bearer {token}"})


def test_the_hub_says_whose_tokens_it_takes(sandbox: Sandbox):
    assert send("GET", f"{sandbox.hub.url}/livez").status == 200
    document = send("GET", f"{sandbox.hub.url}/.well-known/oauth-protected-resource").json()
    assert document["resource"] == HUB_AUDIENCE
    assert document["authorization_servers"] == [sandbox.issuer.issuer]


def test_a_task_asks_the_hub_and_shows_its_pods_token(sandbox: Sandbox):
    stubs = stubs_of(sandbox, "alice")
    register(stubs, script("tells", "(outputs.parent / 'told').write_text(repr(dict(os.environ)))"))
    execution = ran(stubs, "tells")

    (place,) = (sandbox.directory / "flyte" / "executions" / execution.id.name).iterdir()
    told = (place / "told").read_text()
    assert f"'AUTHAGENT_SOCKET': '{sandbox.hub.socket}'" in told
    assert f"'AUTHAGENT_POD_TOKEN': '{place / 'pod-token'}'" in told
    assert "AUTHAGENT_HUB" not in told
    assert sandbox.cluster.workflow(f"{PROJECT}-development", execution.id.name).execution_identity == "alice"


def test_people_have_a_token_for_the_hub_beside_the_one_for_flyte(sandbox: Sandbox):
    for user in ("alice", "bob", "mallory"):
        claims = [
            jwt.decode((sandbox.directory / f"{user}.{kind}").read_text(), sandbox.issuer.keys()).claims
            for kind in ("token", "hub-token")
        ]
        assert [(one["sub"], one["aud"]) for one in claims] == [(user, PUBLIC_URL), (user, HUB_AUDIENCE)]


def test_the_hub_can_be_stopped_and_started_again(sandbox: Sandbox):
    sandbox.hub.stop()
    sandbox.hub.start(sandbox.issuer, sandbox.cluster, sandbox.control_plane.endpoint)

    assert send("GET", f"{sandbox.hub.url}/livez").status == 200


def test_everything_answers_once_the_ready_file_is_there_and_goes_with_it(tmp_path):
    with started(tmp_path, "--posture", "external", "--hub") as (process, ready):
        directory = Path(ready["agent_socket"]).parent
        assert ready["hub"].keys() == {"url", "socket", "audience"}
        assert (ready["hub"]["audience"], ready["hub"]["socket"]) == (HUB_AUDIENCE, str(directory / "hub.sock"))
        assert "hub" in ready["clients"]
        assert send("GET", f"{ready['hub']['url']}/livez").status == 200
        counted = send("GET", f"{ready['control']}/counts").json()
        assert (counted["mints"], counted["clients"]) == ({}, {})
        tokens = {
            user: [Path(what[name]).read_text() for name in ("token_file", "hub_token_file")]
            for user, what in ready["users"].items()
        }
        assert tokens.keys() == {"alice", "bob", "mallory"}
        assert [get_version(ready, token) for token in tokens["alice"]] == ["OK", "UNAUTHENTICATED"]
        said = (tmp_path / "said").read_text()
        around = "\n".join(left_behind(str(directory)))
        assert ready["hub"]["url"] in said
        for secret in (*ready["clients"].values(), *(token for pair in tokens.values() for token in pair)):
            assert secret not in said + around
        readable = [path.name for path in directory.iterdir() if path.is_file() and path.stat().st_mode & 0o077]
        assert readable == []
        process.terminate()
        assert process.wait(timeout=60) == 143

    assert left_behind(str(directory)) == []


def test_the_command_is_told_where_the_hub_is_and_gets_nobodys_token():
    names = ("AUTHAGENT_SOCKET", "AUTHAGENT_HUB", "AUTHAGENT_HUB_TOKEN_FILE", "AUTHAGENT_POD_TOKEN")
    source = f"import json, os; print(json.dumps([os.environ.get(name) for name in {names}]))"
    done = subprocess.run(
        [*SANDBOX, "--posture", "external", "--hub", "--", sys.executable, "-c", source],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    socket, hub, *others = json.loads(done.stdout.splitlines()[-1])
    assert socket.endswith("/agent.sock")
    assert hub.startswith("http://127.0.0.1:")
    assert hub in done.stderr
    assert others == [None, None]


# What comes of it

ASKS = """
import http.client, socket, urllib.parse

class Hub(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.environ["AUTHAGENT_SOCKET"])

form = {
    "grant_type": "client_credentials",
    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    "client_assertion": open(os.environ["AUTHAGENT_POD_TOKEN"]).read(),
}
hub = Hub("localhost")
hub.request("POST", "/token", urllib.parse.urlencode(form), {"Content-Type": "application/x-www-form-urlencoded"})
answer = hub.getresponse()
(outputs.parent / "told").write_text(f"{answer.status} {answer.read().decode()}")
"""
"""A task that asks for a token with nothing but what every task has."""


def told(sandbox: Sandbox, stubs: Stubs, execution_id: Any) -> tuple[int, dict[str, Any]]:
    """What the hub told the only attempt of an execution."""
    ended(stubs, execution_id)
    (place,) = (sandbox.directory / "flyte" / "executions" / execution_id.name).iterdir()
    status, _, body = (place / "told").read_text().partition(" ")
    return int(status), json.loads(body)


def consent(sandbox: Sandbox, user: str, execution_id: Any) -> Any:
    """Somebody agrees that an execution may act for them."""
    shown = (sandbox.directory / f"{user}.hub-token").read_text()
    named = f"{execution_id.project}:{execution_id.domain}:{execution_id.name}"
    reply = send(
        "POST",
        f"{sandbox.hub.url}/grants",
        urlencode({"execution": named, "expires_in": "600"}),
        {"Content-Type": FORM, "Authorization": f"Bearer {shown}"},
    )
    if reply.status == 202:
        assert b"Allowed" in Surfer().consent(reply.json()["consent_uri"], user).body
    return reply


def test_a_task_speaks_for_who_consented_and_nobody_in_borrowed_labels_does(sandbox: Sandbox):
    of_alice, of_mallory = stubs_of(sandbox, "alice"), stubs_of(sandbox, "mallory")
    register(of_alice, script("asks", ASKS))
    sandbox.counts.reset()

    victim = launched(of_alice, "asks")
    granted = consent(sandbox, "alice", victim)
    labels = common_pb2.Labels(values={"execution-id": victim.name, "execution-identity": "alice"})
    forger = launched(of_mallory, "asks", labels=labels)
    stolen = consent(sandbox, "mallory", victim)

    page = sandbox.hub.consent == "page"
    assert (granted.status, granted.json().get("status")) == ((202, "pending") if page else (201, "active"))
    assert stolen.status == 403
    status, answer = told(sandbox, of_alice, victim)
    claims = jwt.decode(answer["access_token"], sandbox.issuer.keys()).claims
    assert (status, claims["sub"], claims["client_id"], claims["aud"]) == (200, "alice", "hub", PUBLIC_URL)
    status, answer = told(sandbox, of_mallory, forger)
    assert (status, "access_token" in answer) == (400, False)
    counted = sandbox.counts.snapshot()
    expected = {
        "exchange": {"exchanges": {"hub": 1}},
        "page": {"codes": {"hub": 1}},
        "on_behalf_of": {"assertions": {"hub": 1}},
    }
    assert {name: counted[name] for name in expected[sandbox.hub.consent]} == expected[sandbox.hub.consent]
