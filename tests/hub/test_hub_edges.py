"""The edges of the hub: what it refuses to be configured as, what it says at its address, what it takes for good."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_command_line import authagent

from flytekitplugins.authagent import yaml_file
from flytekitplugins.authagent.agent.file import AgentFile, Flyte
from flytekitplugins.authagent.agent.upstream import LONGEST_TIMEOUT
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.hub import address
from flytekitplugins.authagent.hub.database import LOCK_SECONDS
from flytekitplugins.authagent.hub.flyte import Executions

FLYTE, ISSUER, SECRET = "dns:///flyte.example.com", "https://idp.example.com", "/etc/secrets/hub"


def content(**changed: Any) -> dict[str, Any]:
    """An `agent.yaml` with a hub; `upstream`, `people` and `hub` complete what stands there, the rest replaces keys."""
    service = {"kind": "client_credentials", "issuer": ISSUER, "client_id": "s", "client_secret_file": SECRET}
    grants = service | {"kind": "grant", "consent": "exchange", "client_id": "h", "scopes": ["all"]}
    usual: dict[str, Any] = {
        "listen": "http://127.0.0.1:8443",
        "attestor": "kubernetes",
        "flyte": {"endpoint": FLYTE},
        "hub": {
            "url": "https://hub.example.com",
            "people": {"issuer": ISSUER, "audience": "authagent-hub"} | changed.pop("people", {}),
            "store": "memory",
            "keys_env": "KEYS",
            "ask_flyte_as": "service",
        }
        | changed.pop("hub", {}),
        "upstreams": {"service": service, "people": grants | changed.pop("upstream", {})},
        "rules": [{"name": "all", "who": {"namespace": "*"}, "give": {"upstream": "people", "scopes": ["all"]}}],
    }
    return usual | changed


def loaded(**changed: Any) -> AgentFile:
    return yaml_file.parse(yaml.safe_dump(content(**changed)).encode(), AgentFile, name="hub")


# What it is configured as


@pytest.mark.parametrize(
    "flyte",
    [
        {"endpoint": FLYTE, "insecure": True},
        {"endpoint": "flyte.example.com:80", "insecure": True},
        {"endpoint": "http://10.0.0.7:8089", "insecure": True},
    ],
)
def test_its_own_token_is_not_sent_to_a_flyte_in_plaintext(
    flyte: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AUTHAGENT_ALLOW_PLAINTEXT", raising=False)
    with pytest.raises(ConfigError, match=r"in plaintext, where anybody.*insecure: false.*AUTHAGENT_ALLOW_PLAINTEXT="):
        loaded(flyte=flyte)
    # Whoever makes one of something else than a file is refused as well, before anything is sent.
    with pytest.raises(ConfigError, match="in plaintext"):
        Executions(Flyte.model_validate(flyte), lambda: pytest.fail("a token was obtained"))


@pytest.mark.parametrize(
    ("flyte", "allowed"),
    [
        ({"endpoint": FLYTE}, ""),
        ({"endpoint": "localhost:30080", "insecure": True}, ""),
        ({"endpoint": "unix:/run/flyte.sock", "insecure": True}, ""),
        ({"endpoint": "flyte.example.com:80", "insecure": True}, "other, flyte.example.com"),
        ({"endpoint": "flyte.example.com:80", "insecure": True}, "flyte.example.com:80"),
    ],
)
def test_plaintext_is_for_this_machine_and_for_what_the_operator_names(
    flyte: dict[str, Any], allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAGENT_ALLOW_PLAINTEXT", allowed)
    assert loaded(flyte=flyte).flyte
    Executions(Flyte.model_validate(flyte), lambda: pytest.fail("a token was obtained")).close()


def test_another_port_than_the_one_that_may_be_plaintext_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHAGENT_ALLOW_PLAINTEXT", "flyte.example.com:80")
    with pytest.raises(ConfigError, match="in plaintext"):
        loaded(flyte={"endpoint": "flyte.example.com:81", "insecure": True})


@pytest.mark.parametrize("seconds", [20.5, 120])
def test_a_provider_may_not_take_longer_than_the_lock_on_a_grant_lasts(seconds: float) -> None:
    """An exchange, and the resolver's own time beside it, must fit; the second replica would spend the token again."""
    with pytest.raises(ConfigError, match=rf"timeout: {seconds:g} s is too long, {LONGEST_TIMEOUT:g} s is the most"):
        loaded(upstream={"timeout": seconds})
    assert loaded(upstream={"timeout": LONGEST_TIMEOUT}).grants
    assert 2 * LONGEST_TIMEOUT < LOCK_SECONDS


@pytest.mark.parametrize(
    ("flyte", "issuer"),
    [
        ("dns:///idp.example.com", ISSUER),
        ("idp.example.com:443", ISSUER),
        ("dns:///idp.example.com", f"{ISSUER}:443/"),
        ("dns:///idp.example.com:8443", f"{ISSUER}:8443"),
        ("localhost:30080", "http://127.0.0.1:30080"),
    ],
)
def test_flyteadmins_own_server_is_no_identity_provider_for_a_hub(flyte: str, issuer: str) -> None:
    for changed in (
        {"people": {"issuer": issuer}, "upstream": {"issuer": issuer}},
        {"people": {"issuer": issuer}, "upstream": {"issuer": None, "token_endpoint": "https://another.example.com/t"}},
        {"upstream": {"issuer": None, "token_endpoint": f"{issuer.rstrip('/')}/oauth2/token"}},
    ):
        with pytest.raises(ConfigError, match="cannot exchange tokens, knows no other audience and cannot revoke"):
            loaded(flyte={"endpoint": flyte}, **copy.deepcopy(changed))


@pytest.mark.parametrize(
    ("flyte", "issuer"),
    [
        (FLYTE, ISSUER),
        ("idp.example.com:8089", ISSUER),
        ("idp.example.com", f"{ISSUER}:8443"),
        ("localhost:30080", "http://127.0.0.1:30081"),
        ("localhost:30080", "http://127.0.0.1"),
        ("unix:/run/flyte.sock", "http://127.0.0.1"),
        ("dns:///idp.example.com", f"{ISSUER}/realms/flyte"),  # behind one entrance
    ],
)
def test_another_server_beside_flyte_is_an_identity_provider_for_a_hub(flyte: str, issuer: str) -> None:
    assert loaded(flyte={"endpoint": flyte}, people={"issuer": issuer}, upstream={"issuer": issuer}).grants


def test_an_issuer_that_is_no_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(upstream={"issuer": "https://idp.example.com:s3cret"})
    assert "s3cret" not in str(refused.value)


# Where it keeps grants

HERE = "postgresql://hub:s3cret@"
LIBPQ = ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGSSLMODE")


@pytest.fixture
def libpq(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which libpq adds nothing to an address."""
    for name in LIBPQ:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "mode", ["", "disable", "allow", "prefer", "verify_full", "VERIFY-FULL", "require&sslmode=disable"]
)
@pytest.mark.parametrize(
    "host", ["db.example.com/hub?", "10.0.0.7:5432/hub?", "[2001:db8::1]/hub?", "/hub?host=db.example.com&"]
)
def test_a_database_on_another_machine_is_not_spoken_to_in_plaintext(
    host: str, mode: str, libpq: pytest.MonkeyPatch
) -> None:
    """libpq's own `prefer` takes plaintext from whoever stands between and says that there is no TLS."""
    libpq.setenv("PGSSLMODE", "verify-full")  # the environment of one process does not say it for the others
    with pytest.raises(ConfigError, match="lets the connection be plaintext") as refused:
        address.address(f"{HERE}{host}" + (f"sslmode={mode}" if mode else ""))
    assert "sslmode=verify-full" in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("environ", "where"),
    [
        ({"PGHOST": "db.example.com"}, "/hub"),
        ({"PGHOSTADDR": "10.0.0.7"}, "/hub"),
        ({"PGHOSTADDR": "10.0.0.7"}, "localhost/hub"),
        ({"PGSERVICE": "hub"}, "localhost/hub"),
        ({}, "/hub?service=hub"),
        ({}, "localhost/hub?hostaddr=10.0.0.7"),
        ({}, "localhost/hub?host=db.example.com"),
        ({}, "/hub?host=localhost&host=db.example.com:5433"),
        ({}, "/hub?host=/run/postgresql,db.example.com"),
    ],
)
def test_what_libpq_adds_to_an_address_counts(environ: dict[str, str], where: str, libpq: pytest.MonkeyPatch) -> None:
    for name, value in environ.items():
        libpq.setenv(name, value)
    with pytest.raises(ConfigError, match="lets the connection be plaintext"):
        address.address(HERE + where)


@pytest.mark.parametrize(
    "where",
    [
        "localhost/hub",
        "127.0.0.1:5432/hub?sslmode=disable",
        "[::1]:5432/hub",
        "/hub",
        "/hub?host=/run/postgresql",
        "/hub?host=localhost:5432&host=127.0.0.1:5433",
        "db.example.com/hub?sslmode=verify-full&sslrootcert=system",
        "db.example.com/hub?sslmode=verify-ca&sslrootcert=/etc/ca.pem",
        "db.example.com/hub?sslmode=require",
    ],
)
def test_a_database_on_this_machine_needs_no_tls_and_another_is_taken_with_it(
    where: str, libpq: pytest.MonkeyPatch
) -> None:
    assert address.address(HERE + where).is_postgresql


@pytest.mark.parametrize("command", [("serve", "--check", "--config"), ("policy", "check")])
@pytest.mark.parametrize("in_a_file", [False, True])
def test_the_commands_for_operators_say_it(tmp_path: Path, command: tuple[str, ...], in_a_file: bool) -> None:
    tmp_path.chmod(0o700)
    store = tmp_path / "store"
    store.write_text(f"{HERE}db.example.com/hub\n")
    store.chmod(0o600)
    changed = content(hub={"store_file": str(store)} if in_a_file else {"store": store.read_text().strip()})
    if in_a_file:
        del changed["hub"]["store"]
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump(changed))
    file.chmod(0o600)
    done = authagent(*command, str(file))
    assert (done.returncode, "sslmode=verify-full" in done.stderr) == (2, True), done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    store.write_text(f"{HERE}db.example.com/hub?sslmode=verify-full\n")
    if not in_a_file:
        changed["hub"]["store"] = store.read_text().strip()
        file.write_text(yaml.safe_dump(changed))
    assert authagent(*command, str(file)).returncode == 0
