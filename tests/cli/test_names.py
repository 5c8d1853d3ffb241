"""Names that are almost right, and two that contradict each other: what was meant is said."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte_on_a_laptop import Laptop, laptop
from test_person_commands import sign_in

from flytekitplugins.authagent import config, endpoint, flyte_config, yaml_file
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.config import ClientFile
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.suggestion import did_you_mean

pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Laptop]:
    tmp_path.chmod(0o700)
    with laptop(tmp_path) as it:
        it.configure()
        yield it


@pytest.mark.parametrize(
    ("arguments", "environ", "meant"),
    [
        (("tokn",), {}, "token"),
        (("Login",), {}, "login"),
        (("log-in",), {}, "login"),
        (("grant_s",), {}, "grants"),
        (("token",), {"AUTHAGENT_PROVIDER": "agnet"}, "agent"),
        (("token",), {"AUTHAGENT_PROVIDER": "client-credentials"}, "client_credentials"),
        (("token",), {"AUTHAGENT_PROVIDER": "apikey"}, "api_key"),
    ],
)
def test_a_name_that_is_almost_one(
    place: Laptop, arguments: tuple[str, ...], environ: dict[str, str], meant: str
) -> None:
    done = place.run(*arguments, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"did you mean {meant}?" in done.stderr


@pytest.mark.parametrize("name", ["", "x", "qwertz", "--help", "\N{SNOWMAN}" * 5000])
def test_what_is_like_nothing_gets_no_guess(name: str) -> None:
    assert did_you_mean(name, ["token", "login"]) == ""


@pytest.mark.parametrize(
    ("content", "model", "key", "meant"),
    [
        ("binding: []", ClientFile, "binding", "bindings"),
        ("bindings: [{provider: {kind: env}, scope: [a]}]", ClientFile, "scope", "scopes"),
        ("bindings: [{when: {projekt: x}, provider: {kind: env}}]", ClientFile, "projekt", "project"),
        ("bindings: [{provider: {kind: agent, sockets: /x}}]", ClientFile, "sockets", "socket"),
        ("hub: {url: 'https://hub.example.com', clientId: a}", ClientFile, "clientId", "client_id"),
        ("upstreams: {a: {kind: client_credentials, isuer: 'https://x'}}", AgentFile, "isuer", "issuer"),
        ("rules: [{name: a, who: {uids: [1]}, give: {upstream: a}}]", AgentFile, "uids", "uid"),
        (
            "rules: [{name: a, who: {uid: [1]}, give: {upstream: a, maxLifetime: 1m}}]",
            AgentFile,
            "maxLifetime",
            "max_lif",
        ),
    ],
)
def test_a_key_that_is_almost_one(content: str, model: type, key: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: unknown key; did you mean {meant}"):
        yaml_file.parse(content.encode(), model, name="file.yaml")


@pytest.mark.parametrize(
    ("content", "model", "meant"),
    [
        ("bindings: [{provider: {kind: agnet}}]", ClientFile, "agent"),
        ("bindings: [{provider: {kind: Pkce}}]", ClientFile, "pkce"),
        ("upstreams: {a: {kind: client-credential}}", AgentFile, "client_credentials"),
    ],
)
def test_a_kind_that_is_almost_one(content: str, model: type, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"\.kind: none of .*; did you mean {meant}\?"):
        yaml_file.parse(content.encode(), model, name="file.yaml")


@pytest.mark.parametrize(
    ("content", "model", "key"),
    [
        ("hub: https://hub.example.com", ClientFile, "hub"),
        ("bindings: [{when: project, provider: {kind: env}}]", ClientFile, "when"),
        ("bindings: [agent]", ClientFile, "0"),
        ("upstreams: [a]", AgentFile, "upstreams"),
        ("rules: [{name: a, who: 1000, give: {upstream: a}}]", AgentFile, "who"),
        ("[]", AgentFile, "the file"),
    ],
)
def test_a_value_in_the_place_of_keys(content: str, model: type, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key}: must have keys of its own") as raised:
        yaml_file.parse(content.encode(), model, name="file.yaml")
    assert "dictionary" not in str(raised.value)
    assert "instance of" not in str(raised.value)


def test_a_key_of_another_section_is_not_meant() -> None:
    with pytest.raises(ConfigError, match=r"bindings\.0\.provider\.token_endpoints: unknown key(?!; did)"):
        yaml_file.parse(b"bindings: [{provider: {kind: agent, token_endpoints: x}}]", ClientFile, name="file.yaml")


def test_doctor_names_variables_that_nothing_reads(place: Laptop) -> None:
    wrong = {
        "AUTHAGENT_TOKENFILE": "; did you mean AUTHAGENT_TOKEN_FILE?",
        "AUTHAGENT_XYZZY": "",
        "FLYTE_CREDENTIALS_CLIENTID": "; did you mean FLYTE_CREDENTIALS_CLIENT_ID?",
        "FLYTE_PLATFORM_ENDPOINTS_OF_A_NEWER_FLYTE": None,
    }
    found = json.loads(place.run("doctor", "--json", **dict.fromkeys(wrong, "pl4nted")).stdout)
    said = {finding["what"] for finding in found if finding["check"] == "variable"}
    assert said == {f"{name} is set, and nothing reads it{meant}" for name, meant in wrong.items() if meant is not None}
    right = place.run("doctor", "--json", AUTHAGENT_ALLOW_PLAINTEXT="a.example.com").stdout
    assert "nothing reads" not in right


def test_every_variable_that_the_package_reads_is_known() -> None:
    package = Path(config.__file__).parent
    command = ["grep", "-rhoE", "--include=*.py", r'"AUTHAGENT_[A-Z_]+"', str(package)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {line.strip('"') for line in lines}
    assert found - {"AUTHAGENT_"} <= config.VARIABLES


CONTRADICTIONS = [
    ("https://flyte.example.com", True, "https:// and insecure: true"),
    ("HTTPS://flyte.example.com:8443", True, "https:// and insecure: true"),
    ("http://127.0.0.1:1", False, "http:// and insecure: false"),
]


@pytest.mark.parametrize(("address", "insecure", "says"), CONTRADICTIONS)
def test_a_scheme_and_insecure_that_contradict_each_other_are_both_named(
    tmp_path: Path, address: str, insecure: bool, says: str
) -> None:
    word = str(insecure).lower()
    for content, model in (
        (f"bindings: [{{provider: {{kind: env}}, endpoint: '{address}', insecure: {word}}}]", ClientFile),
        (f"flyte: {{endpoint: '{address}', insecure: {word}}}", AgentFile),
    ):
        with pytest.raises(ConfigError, match=says):
            yaml_file.parse(content.encode(), model, name="file.yaml")
    file = tmp_path / ".flyte" / "config.yaml"
    file.parent.mkdir(mode=0o700)
    file.write_text(f"admin:\n  endpoint: {address}\n  insecure: {word}\n")
    file.chmod(0o600)
    home = {"HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match=says) as caught:
        flyte_config.load(home)
    assert str(file) in str(caught.value)
    file.write_text(f"admin:\n  endpoint: {address}\n")
    with pytest.raises(ConfigError, match=says) as caught:
        flyte_config.load(home | {"FLYTE_PLATFORM_INSECURE": word})
    assert "FLYTE_PLATFORM_INSECURE" in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("address", "insecure"),
    [
        ("https://a", False),
        ("http://a", True),
        ("a:443", True),
        ("dns:///a", False),
        ("https://a", None),
        ("unix:/a", False),
    ],
)
def test_what_does_not_contradict_itself(address: str, insecure: bool | None) -> None:
    assert endpoint.contradiction(address, insecure) == ""


def test_a_second_login_says_that_one_waits_and_takes_it(place: Laptop) -> None:
    with place.typing("login", "--no-browser") as first:
        first.wait_for(r"http://127\.0\.0\.1:\d+/\S+")
        with place.typing("login", "--no-browser") as second:
            second.wait_for("Another program of yours waits for this login")
            assert "http" not in second.shown
            sign_in(first)
            assert first.end()[0] == 0
            status, out = second.end()
    assert (status, "alice" in out) == (0, True), second.shown
    assert "http" not in second.shown
    assert sum(place.provider.counts.snapshot()["mints"].values()) == 1


def test_after_a_login_that_was_declined_the_second_one_asks(place: Laptop) -> None:
    with place.typing("login", "--no-browser") as first:
        first.wait_for(r"http://127\.0\.0\.1:\d+/\S+")
        with place.typing("login", "--no-browser") as second:
            second.wait_for("Another program of yours waits for this login")
            sign_in(first, decision="deny")
            assert first.end()[0] == 4
            assert "log in again and allow it" in first.shown
            sign_in(second)
            assert second.end()[0] == 0


def test_programs_use_a_login_that_is_valid_while_a_new_one_is_waited_for(place: Laptop) -> None:
    with place.typing("login", "--no-browser", "--store", "file") as terminal:
        sign_in(terminal)
        assert terminal.end()[0] == 0
    [file] = (place.home / ".flyte" / "authagent" / "logins").iterdir()
    kept = json.loads(file.read_text())
    file.write_text(
        json.dumps(kept | {"expires_at": time.time() + 60, "issued_at": time.time() - 240})
    )  # due, and valid
    with place.typing("login", "--no-browser") as terminal:
        terminal.wait_for(r"http://127\.0\.0\.1:\d+/\S+")
        done = place.run("token")
    assert (done.returncode, done.stdout.count(".")) == (0, 2), done.stderr
