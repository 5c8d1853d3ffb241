"""`authagent doctor`: each thing that may be wrong, made wrong, and what it says to do."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte_on_a_laptop import Laptop, laptop
from scripted_server import ScriptedServer
from tokens import jwt

from flytekitplugins.authagent.sandbox.posture import Posture

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def place(home: Path) -> Iterator[Laptop]:
    with laptop(home) as it:
        it.configure()
        yield it


def found(place: Laptop, **environ: str) -> dict[str, dict[str, str]]:
    """The findings by their check; the last of several."""
    done = place.run("doctor", "--json", **environ)
    assert done.stderr == ""
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    bad = [finding for finding in findings.values() if finding["level"] == "bad"]
    assert (done.returncode == 0) == (not bad)
    for finding in findings.values():
        assert finding["remedy"] or finding["level"] == "good"
    return findings


def with_token(place: Laptop, token: str) -> dict[str, str]:
    file = place.home / "token"
    file.write_text(token)
    file.chmod(0o600)
    return {"AUTHAGENT_TOKEN_FILE": str(file)}


def test_when_all_is_well_it_says_so(place: Laptop) -> None:
    token = place.provider.own_token("batch", scope="all").json()["access_token"]
    done = place.run("doctor", **with_token(place, token))
    assert done.returncode == 0, done.stdout
    assert "BAD" not in done.stdout
    assert "Flyte takes the token" in done.stdout
    assert "our clock agrees" in done.stdout
    assert token not in done.stdout


def test_nothing_is_configured(place: Laptop) -> None:
    (place.home / ".flyte" / "config.yaml").unlink()
    said = found(place)
    assert "no Flyte is configured" in said["endpoint"]["what"]
    assert said["config"]["level"] == "note"


def test_a_configuration_that_cannot_be_read(place: Laptop) -> None:
    place.configure(scopes=5)
    said = found(place)
    assert "line" in said["config"]["what"]
    assert "scopes" in said["config"]["what"]


def test_an_endpoint_where_nobody_is(place: Laptop) -> None:
    place.configure(endpoint="127.0.0.1:9")
    assert "does not say how to authenticate: UNAVAILABLE" in found(place)["endpoint"]["what"]


def test_a_web_page_in_the_place_of_flyte(place: Laptop) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = ScriptedServer(listening, page)
        place.configure(endpoint=f"127.0.0.1:{listening.getsockname()[1]}")
        said = found(place)["endpoint"]
        server.close()
    assert said["level"] == "bad"


def test_tls_that_is_not_trusted_and_tls_where_there_is_none(place: Laptop) -> None:
    place.configure(insecure=False)
    assert found(place)["endpoint"]["level"] == "bad"


def test_an_agent_that_is_down_and_a_socket_of_everybody(place: Laptop) -> None:
    assert "no socket" in found(place, AUTHAGENT_SOCKET=str(place.home / "none.sock"))["agent"]["what"]
    closed = place.home / "closed.sock"
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(closed))
        assert "nobody answers" in found(place, AUTHAGENT_SOCKET=str(closed))["agent"]["what"]
        nobody.listen()
        closed.chmod(0o666)
        said = place.run("doctor", "--json", AUTHAGENT_SOCKET=str(closed), AUTHAGENT_PROVIDER="env").stdout
    assert any("every user may connect" in finding["what"] for finding in json.loads(said))
    plain = place.home / "plain"
    plain.write_text("")
    assert "not a socket" in found(place, AUTHAGENT_SOCKET=str(plain))["agent"]["what"]


def test_a_keyring_that_cannot_be_used(place: Laptop) -> None:
    said = found(place, PYTHON_KEYRING_BACKEND="keyring.backends.fail.Keyring")["keyring"]
    assert "none on this machine" in said["what"]


def test_nobody_is_logged_in(place: Laptop) -> None:
    assert "authagent login" in found(place)["credential"]["remedy"]


@pytest.mark.parametrize("kind", ["Pkce", "DeviceFlow"])
def test_nobody_is_logged_in_and_the_file_says_how(place: Laptop, kind: str) -> None:
    place.configure(authType=kind)
    done = place.run("doctor")
    assert done.returncode == 3
    assert "`authagent login`" in done.stdout
    assert "another authType" not in done.stdout
    assert "leave authType out" not in done.stdout


def test_a_token_without_the_scope_all(place: Laptop) -> None:
    token = place.provider.own_token("batch", scope="offline").json()["access_token"]
    said = found(place, **with_token(place, token))
    assert "nowhere" in said["scope"]["what"]
    assert "doesn't have required scope" in said["accepted"]["what"]

    keycloaks = jwt(sub="a", client_id="b", scope="all profile", exp=4_000_000_000)
    assert "claim `scope`" in found(place, **with_token(place, keycloaks))["scope"]["what"]


def test_a_token_for_another_audience(home: Path) -> None:
    with laptop(home) as place, laptop(home / "flyte", Posture()) as other:
        place.configure()
        token = other.provider.own_token("batch", scope="all").json()["access_token"]
        said = found(place, **with_token(place, token))
        assert any(said[check]["level"] == "bad" for check in ("audience", "accepted") if check in said)


def test_a_clock_that_is_behind(place: Laptop) -> None:
    ahead = jwt(sub="a", scp=["all"], iat=4_000_000_000, exp=4_000_000_300)
    assert "in the future by our clock" in found(place, **with_token(place, ahead))["clock"]["what"]


def test_a_header_that_flyte_does_not_want(place: Laptop) -> None:
    token = place.provider.own_token("batch", scope="all").json()["access_token"]
    said = found(place, FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY="x-token", **with_token(place, token))
    assert "x-token" in said["header"]["what"]


def test_a_secret_that_forces_flytekits_own_mode(place: Laptop) -> None:
    secret = place.home / "secret"
    secret.write_text("s")
    secret.chmod(0o600)
    place.configure(authType="authagent", clientId="batch", clientSecretLocation=str(secret))
    assert "flytekit's own clients use it" in found(place)["mode"]["what"]


def test_the_order_is_told(place: Laptop) -> None:
    assert "agent then file then env then api_key then client_credentials" in found(place)["order"]["what"]
    assert "env alone" in found(place, AUTHAGENT_PROVIDER="env")["order"]["what"]
    assert os.environ.get("AUTHAGENT_PROVIDER") is None
