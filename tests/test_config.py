"""`authagent.yaml` and the variables: everything that cannot be used is an error at load, with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pytest_mock import MockerFixture

from flytekitplugins.authagent import config, default_order, wire, yaml_file
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.hub_settings import HubSettings
from flytekitplugins.authagent.agent.rule import Who
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


PLAIN = "2026-13-45 0x_ *a << = .nan 1e999 -1 true ~ ~nobody/x '[x' http://[x a:99999"
SCALARS = st.sampled_from(
    [
        *PLAIN.split(),
        "!!int x",
        "!!bool x",
        "!!timestamp x",
        "!!binary '%'",
        '"\\UFFFFFFFF"',
        '"/a\\0"',
        "9" * 5000,
        "0x" + "f" * 5000,
        "&a [*a]",
    ]
)
NAMES = {*AgentFile.model_fields, *ClientFile.model_fields, *HubSettings.model_fields, *Who.model_fields}
KEYS = st.sampled_from([*sorted(NAMES), "kind", "issuer", "path", "timeout", "proxy", "who", "give", "provider", "<<"])


def mapping(found: dict[str, str]) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in found.items()) + "}"


VALUES = st.recursive(
    SCALARS | st.text(max_size=20).map(json.dumps),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda found: f"[{', '.join(found)}]")
        | st.dictionaries(KEYS, inner, max_size=3).map(mapping)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("model", [ClientFile, AgentFile])
@given(
    content=st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode(errors="surrogatepass"))
    | st.dictionaries(KEYS, VALUES, max_size=5).map(lambda found: mapping(found).encode())
)
def test_any_content_is_a_file_or_a_config_error_of_one_line(content: bytes, model: type[BaseModel]) -> None:
    try:
        yaml_file.parse(content, model, name="it")
    except ConfigError as wrong:
        assert "it" in str(wrong)
        assert "\n" not in str(wrong)


def test_what_nobody_thought_of_is_a_config_error_that_quotes_nothing(mocker: MockerFixture) -> None:
    mocker.patch.object(yaml.SafeLoader, "get_single_node", side_effect=KeyError("pl4nted"))
    with pytest.raises(ConfigError) as caught:
        yaml_file.parse(b"a: b", ClientFile, name="it")
    mocker.stopall()
    mocker.patch.object(ClientFile, "model_validate", side_effect=KeyError("pl4nted"))
    with pytest.raises(ConfigError) as also:
        yaml_file.parse(b"a: b", ClientFile, name="it")
    assert "pl4nted" not in f"{caught.value} {also.value}"


@pytest.mark.parametrize(
    ("key", "value", "good"),
    [
        ("server_uid", "0", True),
        ("server_uid", "4294967294", True),
        ("server_uid", "4294967295", False),
        ("server_uid", "65534", False),
        ("server_uid", "-1", False),
        ("server_uid", "true", False),
        ("server_uid", "'5'", False),
        ("wait", "0.5", True),
        ("wait", "3600", True),
        ("wait", "3601", False),
        ("wait", "0", False),
        ("wait", "true", False),
        ("wait", "'5'", False),
        ("wait", ".inf", False),
        ("wait", ".nan", False),
        ("wait", "1" + "0" * 400, False),
    ],
)
def test_numbers_have_ranges(key: str, value: str, good: bool) -> None:
    content = f"bindings: [{{provider: {{kind: agent, socket: /a, {key}: {value}}}}}]"
    try:
        yaml_file.parse(content.encode(), ClientFile, name="it")
    except ConfigError as wrong:
        assert not good, wrong
        assert f"it, line 1: bindings.0.provider.{key}" in str(wrong)
    else:
        assert good


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
    ("named", "file"), [(None, wire.POD_TOKEN), ("", wire.POD_TOKEN), ("{home}/token", "{home}/token")]
)
def test_where_the_pods_token_is(tmp_path: Path, named: str | None, file: str) -> None:
    (tmp_path / "token").write_text("a.b.c")
    (tmp_path / "token").chmod(0o600)
    file = file.format(home=tmp_path)
    environ = {"HOME": str(tmp_path)} | ({} if named is None else {"AUTHAGENT_POD_TOKEN": named.format(home=tmp_path)})
    settings = config.load(environ)

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

    settings = config.load({"AUTHAGENT_CONFIG": str(file), "AUTHAGENT_POD_TOKEN": str(file)})

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
