"""`authagent.yaml` and the variables: everything that cannot be used is an error at load, with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flytekitplugins.authagent import config, default_order, wire, yaml_file
from flytekitplugins.authagent.config import ClientFile
from flytekitplugins.authagent.endpoint import parse
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.specs import AgentSpec

EXAMPLE = """\
bindings:
  - when: {project: flytesnacks, domain: production, task: "billing.*"}
    provider: {kind: agent, socket: /var/run/authagent/agent.sock}
    scopes: [all]
  - provider:
      kind: client_credentials
      issuer: https://idp.example.com
      client_id: batch
      client_secret_file: /etc/secrets/client_secret
"""


def write(directory: Path, content: str) -> dict[str, str]:
    file = directory / "authagent.yaml"
    file.write_text(content)
    file.chmod(0o600)
    return {"AUTHAGENT_CONFIG": str(file), "HOME": str(directory)}


def test_the_contracts_own_example_is_read(tmp_path: Path) -> None:
    settings = config.load(write(tmp_path, EXAMPLE))

    assert settings.bindings
    assert [b.provider.kind for b in settings.bindings] == ["agent", "client_credentials"]
    assert settings.bindings[0].scopes == ("all",)


@pytest.mark.parametrize(
    ("content", "place", "says"),
    [
        ("bindngs: []\n", "line 1", "bindngs: unknown key"),
        (EXAMPLE.replace("scopes: [all]", "scope: [all]"), "line 4", "scope: unknown key"),
        (EXAMPLE.replace("domain", "domian"), "line 2", "domian: unknown key"),
        (EXAMPLE.replace("kind: agent", "kind: agnet"), "line 3", "provider"),
        (EXAMPLE.replace("/var/run", "var/run"), "line 3", "must be an absolute path"),
        (EXAMPLE.replace("[all]", '["a b"]'), "line 4", "a scope has no spaces"),
        (EXAMPLE.replace("[all]", "all"), "line 4", "scopes"),
        (EXAMPLE.replace("flytesnacks", "5"), "line 2", "project"),
        (EXAMPLE.replace("      client_id: batch\n", ""), "line 5", "needs a client_id"),
        (
            EXAMPLE.replace("client_secret_file: /etc/secrets/client_secret", "client_secret: pl4nted"),
            "line",
            "unknown",
        ),
        (EXAMPLE + "bindings: []\n", "line 10", "stands here twice"),
        ("- a\n", "line 1", "the file"),
        ("bindings: [\n", "line 2", "not YAML"),
        ("bindings: !!python/object/apply:os.system [id]\n", "line 1", "not YAML"),
        ("1: 2\n", "line 1", "a key must be text"),
    ],
)
def test_what_cannot_be_used_is_named_with_file_line_and_key(
    tmp_path: Path, content: str, place: str, says: str
) -> None:
    environ = write(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        config.load(environ)
    message = str(caught.value)
    assert f"{environ['AUTHAGENT_CONFIG']}, {place}" in message
    assert says in message
    assert "pl4nted" not in message


def test_a_loose_file_is_refused(tmp_path: Path) -> None:
    environ = write(tmp_path, EXAMPLE)
    (tmp_path / "authagent.yaml").chmod(0o666)
    with pytest.raises(ConfigError, match="can be written by others"):
        config.load(environ)


def test_aliases_do_not_unfold_without_end() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    with pytest.raises(ConfigError, match="unfolds to more than"):
        yaml_file.parse(bomb.encode(), ClientFile, name="bomb")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_content_is_a_file_or_a_config_error(content: bytes) -> None:
    try:
        yaml_file.parse(content, ClientFile, name="it")
    except ConfigError as wrong:
        assert "it" in str(wrong)


def test_where_the_file_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / ".flyte").mkdir()
    file = tmp_path / ".flyte" / "authagent.yaml"
    file.write_text("bindings: []\n")
    assert config.load({"HOME": str(tmp_path)}).source == str(file)
    with pytest.raises(ConfigError, match="which is not there"):
        config.load({"HOME": str(tmp_path), "AUTHAGENT_CONFIG": str(tmp_path / "none")})


@pytest.mark.parametrize(
    ("environ", "socket"),
    [
        ({}, "/var/run/authagent/agent.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/authagent/agent.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/1", "FLYTE_INTERNAL_EXECUTION_ID": "x"}, "/var/run/authagent/agent.sock"),
        ({"AUTHAGENT_SOCKET": "/a/b.sock"}, "/a/b.sock"),
    ],
)
def test_where_the_socket_is(tmp_path: Path, environ: dict[str, str], socket: str) -> None:
    assert config.load({"HOME": str(tmp_path), **environ}).socket == Path(socket)


@pytest.mark.parametrize(
    ("environ", "file"),
    [
        ({}, wire.POD_TOKEN),
        ({"AUTHAGENT_POD_TOKEN": ""}, wire.POD_TOKEN),
        ({"AUTHAGENT_POD_TOKEN": "/a/token"}, "/a/token"),
    ],
)
def test_where_the_pods_token_is(tmp_path: Path, environ: dict[str, str], file: str) -> None:
    settings = config.load({"HOME": str(tmp_path), **environ})

    assert settings.pod_token == Path(file)
    agent = default_order.spec("agent", settings, environ)
    assert isinstance(agent, AgentSpec)
    assert (agent.socket, agent.token_file) == (settings.socket, Path(file))


@pytest.mark.parametrize("named", [None, "/b/token"])
def test_an_agent_of_a_binding_keeps_its_own_pod_token(tmp_path: Path, named: str | None) -> None:
    agent = {"kind": "agent", "socket": "/a/agent.sock"} | ({"token_file": named} if named else {})
    file = tmp_path / "authagent.yaml"
    file.write_text(json.dumps({"bindings": [{"provider": agent}]}))
    file.chmod(0o600)

    settings = config.load({"AUTHAGENT_CONFIG": str(file), "AUTHAGENT_POD_TOKEN": "/a/token"})

    assert settings.bindings is not None
    provider = settings.bindings[0].provider
    assert isinstance(provider, AgentSpec)
    assert provider.token_file == Path(named or wire.POD_TOKEN)


@pytest.mark.parametrize(
    "environ",
    [
        {"AUTHAGENT_SOCKET": "relative"},
        {"AUTHAGENT_TOKEN_FILE": "relative"},
        {"AUTHAGENT_POD_TOKEN": "relative"},
        {"AUTHAGENT_PROVIDER": "agnet"},
        {"AUTHAGENT_ALLOW_PLAINTEXT": "a b"},
        {"AUTHAGENT_CONFIG": "relative"},
    ],
    ids=str,
)
def test_variables_that_cannot_be_used_are_named(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load({"HOME": str(tmp_path), **environ})
    name, value = next(iter(environ.items()))
    assert name in str(caught.value) or value in str(caught.value)


def test_plaintext_is_for_loopback_and_for_those_named(tmp_path: Path) -> None:
    settings = config.load({"HOME": str(tmp_path), "AUTHAGENT_ALLOW_PLAINTEXT": "flyte.example.com:81,other"})

    for text, allowed in {
        "localhost:1": True,
        "flyte.example.com:81": True,
        "other:5": True,
        "flyte.example.com:82": False,
        "else.example.com": False,
    }.items():
        assert settings.may_send_plaintext(parse(text)) is allowed, text
