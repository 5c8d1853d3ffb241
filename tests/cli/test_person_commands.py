"""`login`, `whoami`, `status`, `token`, `logout`: a person at a terminal, and the pages of a real provider."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsing import Browser
from flyte_on_a_laptop import Laptop, Terminal, laptop
from running_provider import send

from flytekitplugins.authagent.sandbox.posture import Posture

pytestmark = pytest.mark.timeout(120)

ADDRESS = r"(http://127\.0\.0\.1:\d+/\S+)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def place(home: Path) -> Iterator[Laptop]:
    with laptop(home) as it:
        it.configure()
        yield it


def sign_in(terminal: Terminal, user: str = "alice", decision: str = "allow") -> str:
    """Open the address that the terminal shows, press a button, and follow the way back; the page at its end."""
    url = terminal.wait_for(ADDRESS).group(1)
    location = Browser().decide(url, user, decision).headers["location"]
    return send("GET", location).body.decode()


def login(place: Laptop, *arguments: str, user: str = "alice") -> str:
    with place.typing("login", *arguments) as terminal:
        page = sign_in(terminal, user)
        status, out = terminal.end()
    assert (status, "You are logged in" in page) == (0, True), terminal.shown
    return out


def test_a_login_serves_every_program_until_it_is_ended(place: Laptop) -> None:
    out = login(place, "--no-browser")
    assert "alice" in out
    assert "yes, without you" in out

    token = place.run("token")
    assert (token.returncode, token.stderr, token.stdout.count(".")) == (0, "", 2)
    assert place.provider.read(token.stdout.strip()).claims["sub"] == "alice"
    assert token.stdout.strip() not in out

    who = json.loads(place.run("whoami", "--json").stdout)
    assert (who["subject"], who["source"], who["provider"]) == ("alice", "flyte", "keyring")
    assert who["scopes"] == ["all", "offline"]

    said = place.run("status")
    assert "keyring" in said.stdout
    assert "in " in said.stdout
    assert token.stdout.strip() not in said.stdout

    out = place.run("logout")
    assert (out.returncode, "Logged out" in out.stderr) == (0, True)
    assert place.provider.counts.snapshot()["revocations"]
    assert (place.run("token").returncode, place.run("whoami").returncode, place.run("logout").returncode) == (3, 3, 3)


def test_a_login_is_renewed_before_a_minimum_lifetime_is_refused(place: Laptop) -> None:
    login(place)
    first, life = place.run("token"), int(place.provider.issuer.lifetime)
    time.sleep(3.1)  # until the token has less left than is asked for below
    longer = place.run("token", "--min-lifetime", str(life - 2))
    assert longer.returncode == 0, longer.stderr
    assert longer.stdout != first.stdout
    refused = place.run("token", "--min-lifetime", str(life * 2))
    assert (refused.returncode, refused.stdout) == (4, "")
    assert f"no credential lives {life * 2} s" in refused.stderr


def test_a_login_by_device(place: Laptop) -> None:
    with place.typing("login", "--device", "--json") as terminal:
        url = terminal.wait_for(r"or open " + ADDRESS).group(1)
        assert "\N{FULL BLOCK}" in terminal.shown or "\N{UPPER HALF BLOCK}" in terminal.shown
        assert Browser().decide(url, "bob").status == 200
        status, out = terminal.end()
    assert status == 0, terminal.shown
    said = json.loads(out)
    assert (said["subject"], said["renewable"]) == ("bob", True)
    assert json.loads(place.run("whoami", "--json").stdout)["subject"] == "bob"


def test_who_declines_is_not_logged_in(place: Laptop) -> None:
    with place.typing("login", "--no-browser") as terminal:
        page = sign_in(terminal, decision="deny")
        status, out = terminal.end()
    assert (status, out) == (4, "")
    assert "did not succeed" in page
    assert "the login was declined" in terminal.shown
    assert "hint: log in again and allow it, or ask the operator" in terminal.shown
    assert place.run("token").returncode == 3


def test_whatever_else_comes_to_the_port_does_not_end_the_login(place: Laptop) -> None:
    with place.typing("login", "--no-browser") as terminal:
        url = terminal.wait_for(ADDRESS).group(1)
        location = Browser().decide(url).headers["location"]
        callback = location.partition("?")[0]
        port = urlsplit(callback).port
        for path, status in {
            f"http://127.0.0.1:{port}/favicon.ico": 404,
            callback: 400,
            f"{callback}?code=x&state=y": 400,
            f"{callback}?error=access_denied": 400,
            f"{callback}?{'a=b&' * 100}": 400,
        }.items():
            assert send("GET", path).status == status
        assert send("POST", location).status == 501
        assert send("GET", location).status == 200
        assert terminal.end()[0] == 0


def test_an_address_can_be_pasted(place: Laptop) -> None:
    with place.typing("login", "--no-browser") as terminal:
        url = terminal.wait_for(ADDRESS).group(1)
        terminal.wait_for("paste")
        terminal.type("not an address")
        terminal.wait_for("not the address")
        terminal.type(Browser().decide(url).headers["location"])
        assert terminal.end()[0] == 0
    assert place.run("token").returncode == 0


def test_nobody_who_comes_is_waited_for_no_longer_than_said(place: Laptop) -> None:
    with place.typing("login", "--no-browser", "--timeout", "1") as terminal:
        assert terminal.end()[0] == 5  # within half a minute, where five would be usual
    assert "nobody logged in within 1 s" in terminal.shown


def test_without_a_terminal_or_in_a_pod_nobody_is_asked(place: Laptop) -> None:
    done = place.run("login")
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
    with place.typing("login", FLYTE_INTERNAL_EXECUTION_ID="x") as terminal:
        assert terminal.end()[0] == 2
    assert "in a pod" in terminal.shown
    for environ in ({"AUTHAGENT_PROVIDER": "pkce"}, {"AUTHAGENT_PROVIDER": "device"}, {}):
        done = place.run("token", **environ)
        assert (done.returncode, done.stdout) == (3, "")
        assert "authagent login" in done.stderr
    assert place.provider.counts.snapshot()["mints"] == {}


def test_a_program_at_a_terminal_logs_in_by_itself(place: Laptop) -> None:
    with place.typing("token") as terminal:
        sign_in(terminal)
        status, out = terminal.end()
    assert status == 0
    assert place.provider.read(out.strip()).claims["sub"] == "alice"
    assert place.run("token").stdout == out


def test_a_flyte_without_authentication_needs_no_login(home: Path) -> None:
    with laptop(home, Posture(use_auth=False)) as place:
        place.configure()
        with place.typing("login") as terminal:
            assert terminal.end()[0] == 0
        assert "nothing to log in to" in terminal.shown
        done = place.run("token")
        assert (done.returncode, "no authentication" in done.stderr) == (3, True)
        assert "no authentication" in place.run("status").stdout


def test_a_provider_that_is_down_keeps_the_login(place: Laptop) -> None:
    login(place, "--no-browser")
    place.provider.provider.stop()
    done = place.run("logout")
    assert (done.returncode, "--forget" in done.stderr) == (5, True)
    assert place.run("token").returncode == 0
    assert place.run("logout", "--forget").returncode == 0
    assert place.run("token").returncode != 0


def test_flyteadmins_own_server(home: Path) -> None:
    with laptop(home, Posture()) as place:
        place.configure()
        login(place, "--no-browser")
        assert json.loads(place.run("whoami", "--json").stdout)["subject"] == "alice"
        with place.typing("login", "--device") as terminal:
            assert terminal.end()[0] == 3
        assert "device_authorization_endpoint" in terminal.shown
        assert "cannot revoke" in place.run("logout").stderr


def test_a_login_at_a_flyte_that_is_not_the_configured_one_is_found_there_alone(place: Laptop) -> None:
    endpoint = place.flyte.endpoint
    place.configure(endpoint="flyte.example.com", insecure=False)
    login(place, "--no-browser", "--endpoint", f"http://{endpoint}")
    token = place.run("token", "--endpoint", f"http://{endpoint}")
    assert (token.returncode, token.stdout.count(".")) == (0, 2)
    assert json.loads(place.run("whoami", "--json", "--endpoint", f"http://{endpoint}").stdout)["subject"] == "alice"
    assert place.run("logout", "--endpoint", f"http://{endpoint}").returncode == 0
    assert place.run("token", "--endpoint", f"http://{endpoint}").returncode == 3
