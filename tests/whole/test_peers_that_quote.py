"""
A peer gives back a secret: whatever the form, the place, the flow and the command, nobody sees it.

One line in `quoting_peer.FORMS`, in `PLACES` or in `FLOWS` is one more. See docs/decisions/0022-quoting-peers.md.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import running_agent
import running_provider
import yaml
from hunt import Hunt
from quoting_peer import FORMS, PLACES, QuotingPeer, quoting

pytestmark = pytest.mark.timeout(180)

TESTS = Path(__file__).parent.parent
ASK = [
    [name, *more]
    for name in ("token", "status", "doctor", "whoami")
    for more in ([], ["--json"])
    if (name, more) != ("token", ["--json"])
]


@dataclass
class Flow:
    """`provider` is a binding's; in `files` the values are secrets that are written there."""

    provider: dict[str, Any]
    files: tuple[str, ...] = ()
    good: set[str] = field(default_factory=set)
    commands: list[list[str]] = field(default_factory=lambda: ASK)


LOGIN = {"kind": "pkce", "client_id": "cli", "scopes": ["openid"]}
CLIENT = {"kind": "client_credentials", "client_id": "batch", "scopes": ["all"]}
FLOWS = {
    "secret by Basic": Flow(CLIENT | {"client_authentication": "client_secret_basic"}, ("client_secret_file",)),
    "secret by raw Basic": Flow(CLIENT | {"client_authentication": "client_secret_basic_raw"}, ("client_secret_file",)),
    "secret in the body": Flow(CLIENT | {"client_authentication": "client_secret_post"}, ("client_secret_file",)),
    "assertion": Flow(CLIENT, ("client_assertion_file",)),
    "exchange": Flow(
        {"kind": "token_exchange", "client_id": "batch"},
        ("client_secret_file", "subject_token_file", "actor_token_file"),
    ),
    "JWT grant": Flow({"kind": "token_exchange", "grant": "jwt_bearer"}, ("subject_token_file",)),
    "code": Flow(LOGIN, commands=[["login"], ["login", "--json"]]),
    "device": Flow(LOGIN | {"kind": "device"}, good={"device"}, commands=[["login", "--device"]]),
    "refresh": Flow(LOGIN, good={"authorization_code"}, commands=[["login"], *ASK[1:]]),
    "logout": Flow(LOGIN, good={"authorization_code", "refresh_token"}, commands=[["login"], ["logout"]]),
}


def pieces(secret: str, length: int = 8) -> set[bytes]:
    """Every stretch of it."""
    return {secret[i : i + length].encode() for i in range(len(secret) - length + 1)}


def check(seen: str | bytes, hidden: set[str]) -> None:
    shown = seen.encode() if isinstance(seen, str) else seen
    assert Hunt(hidden).found(shown) == set()
    folded = shown.lower()
    for secret in hidden:
        for text in (secret, secret[::-1], secret.encode().hex()):
            assert not {piece for piece in pieces(text.lower()) if piece in folded}, text
        for texts in (FORMS["percent"], FORMS["JSON escapes"], FORMS["entities"]):
            assert not any(text.encode() in shown for text in texts(secret)), secret


def write(directory: Path, flow: Flow, peer: QuotingPeer) -> Path:
    provider = {**flow.provider, "issuer": peer.url}
    for name in flow.files:
        file = directory / name
        file.write_text(secrets.token_hex(8) + "Zz+/~_" + secrets.token_urlsafe(12))
        file.chmod(0o600)
        provider[name] = str(file)
    written = directory / "authagent.yaml"
    written.write_text(yaml.safe_dump({"bindings": [{"provider": provider}]}))
    written.chmod(0o600)
    return written


def run(commands: list[list[str]], home: Path, **environ: str) -> str:
    own = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", ""))),
        "PYTHON_KEYRING_BACKEND": "session_servers.HomeKeyring",
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("every_command.py")), json.dumps(commands)],
        env=own | environ,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def peer() -> Iterator[QuotingPeer]:
    with quoting() as it:
        yield it


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("place", ["error_description", "the error code", "scope"])
def test_no_command_shows_a_secret_of_any_flow(name: str, place: str, peer: QuotingPeer, home: Path) -> None:
    flow = FLOWS[name]
    peer.place, peer.good = place, flow.good
    seen = run(flow.commands, home, AUTHAGENT_CONFIG=str(write(home, flow, peer)))
    assert peer.quoted >= 1, seen
    assert "Traceback (most recent call last):\n  File" not in seen.partition("$ authagent")[0]
    check(seen, peer.secrets)


@pytest.mark.parametrize("place", PLACES)
def test_nor_does_one_from_any_place_in_any_form(place: str, peer: QuotingPeer, home: Path) -> None:
    config = str(write(home, FLOWS["secret by Basic"], peer))
    peer.place = place
    for form in FORMS if place in ("error_description", "scope") else ("raw", "halves"):
        peer.form = form
        check(run([["token"], ["status", "--json"], ["doctor"]], home, AUTHAGENT_CONFIG=config), peer.secrets)
    assert peer.quoted >= 2


@pytest.mark.parametrize("place", PLACES)
def test_the_agent_shows_and_writes_down_none(place: str, peer: QuotingPeer, home: Path) -> None:
    peer.place = place
    with running_provider.running("external") as provider:
        upstream = {"kind": "client_credentials", "token_endpoint": f"{peer.url}/token", "client_id": "flyte-agent"}
        upstream |= {"client_secret_file": str(home / "secret"), "scopes": ["all"]}
        (home / "secret").write_text(secrets.token_urlsafe(24))
        (home / "secret").chmod(0o600)
        with running_agent.running(provider, upstreams={"flyte": upstream}) as agent:
            seen = run([["token"], ["status"], ["status", "--json"]], home, AUTHAGENT_SOCKET=str(agent.socket))
            answers = [agent.ask().body, agent.get("/readyz").body, agent.get("/metrics").body]
            told = [agent.audit.read_bytes(), agent.log.read_bytes()]
    assert peer.quoted >= 1
    assert agent.audit  # it was read before its directory went
    check(b"\n".join((seen.encode(), *answers, *told)), peer.secrets)


def test_the_hunt_would_find_it(peer: QuotingPeer, home: Path) -> None:
    secret = secrets.token_urlsafe(24)
    for texts in FORMS.values():
        with pytest.raises(AssertionError):
            check("shown: " + " ".join(texts(secret)), {secret})
