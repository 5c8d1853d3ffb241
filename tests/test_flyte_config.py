"""Flyte's own configuration: everything that its documentation promises, and which of two sayings counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flytekitplugins.authagent import default_order, flyte_config
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.default_order import Unconfigured
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.flyte_config import FlyteConfig
from flytekitplugins.authagent.specs import (
    ClientCredentialsSpec,
    CommandSpec,
    DeviceSpec,
    KeyringSpec,
    PassthroughSpec,
    PkceSpec,
)

EVERYTHING = {
    "endpoint": "dns:///flyte.example.com",
    "insecure": False,
    "authType": "Pkce",
    "clientId": "mine",
    "scopes": ["all", "offline"],
    "audience": "aud",
    "useAudienceFromAdmin": True,
    "authorizationHeader": "x-flyte",
    "insecureSkipVerify": True,
    "caCertFilePath": "/etc/ca.pem",
    "httpProxyURL": "http://proxy.example.com:3128",
    "command": ["gcloud", "auth"],
    "proxyCommand": ["gcloud", "proxy"],
}


def written(home: Path, content: object, name: str = "config.yaml") -> dict[str, str]:
    file = home / ".flyte" / name
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    file.chmod(0o600)
    return {"HOME": str(home)}


def secret(home: Path, text: str = "s3cr3t") -> Path:
    file = home / "secret"
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_every_key_of_the_file_is_read(tmp_path: Path) -> None:
    config = flyte_config.load(written(tmp_path, {"admin": EVERYTHING, "logger": {"level": 1}, "unknown": 1}))
    told = config.admin.model_dump()
    assert {name: told[name] for name in EVERYTHING} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in EVERYTHING.items()
    }
    assert set(config.said.values()) == {str(tmp_path / ".flyte" / "config.yaml")}
    assert "proxy.example.com" not in repr(config)


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("FLYTE_PLATFORM_URL", "other.example.com", "endpoint", "other.example.com"),
        ("FLYTE_PLATFORM_INSECURE", "true", "insecure", True),
        ("FLYTE_PLATFORM_INSECURE_SKIP_VERIFY", "0", "insecureSkipVerify", False),
        ("FLYTE_PLATFORM_CA_CERT_FILE_PATH", "/etc/os-release", "caCertFilePath", "/etc/os-release"),
        ("FLYTE_PLATFORM_HTTP_PROXY_URL", "http://p:1", "httpProxyURL", "http://p:1"),
        ("FLYTE_CREDENTIALS_AUTH_MODE", "DeviceFlow", "authType", "DeviceFlow"),
        ("FLYTE_CREDENTIALS_CLIENT_ID", "other", "clientId", "other"),
        ("FLYTE_CREDENTIALS_SCOPES", "a,b", "scopes", ("a", "b")),
        ("FLYTE_CREDENTIALS_OAUTH_SCOPES", "a b", "scopes", ("a", "b")),
        ("FLYTE_CREDENTIALS_AUDIENCE", "other", "audience", "other"),
        ("FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY", "x-other", "authorizationHeader", "x-other"),
        ("FLYTE_CREDENTIALS_COMMAND", "a,b c", "command", ("a", "b c")),
        ("FLYTE_CREDENTIALS_COMMAND", "print 'a token'", "command", ("print", "a token")),
        ("FLYTE_CREDENTIALS_PROXY_COMMAND", "a,b", "proxyCommand", ("a", "b")),
    ],
)
def test_every_variable_goes_before_the_file_directly_and_redirected(
    tmp_path: Path, variable: str, text: str, key: str, value: object
) -> None:
    file = tmp_path / "redirected"
    file.write_text(text + "\n")
    file.chmod(0o600)
    environ = written(tmp_path, {"admin": EVERYTHING})
    for own in (
        {variable: text},
        {f"{variable}_FROM_ENV_VAR": "ELSEWHERE", "ELSEWHERE": text},
        {f"{variable}_FROM_FILE": str(file)},
    ):
        config = flyte_config.load(environ | own)
        assert getattr(config.admin, key) == value
        assert config.said[key] == variable


def test_a_redirection_to_nowhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match="FLYTE_CREDENTIALS_CLIENT_ID_FROM_ENV_VAR names NOWHERE"):
        flyte_config.load(environ | {"FLYTE_CREDENTIALS_CLIENT_ID_FROM_ENV_VAR": "NOWHERE"})
    with pytest.raises(ConfigError, match="FLYTE_CREDENTIALS_SCOPES_FROM_FILE names /nowhere"):
        flyte_config.load(environ | {"FLYTE_CREDENTIALS_SCOPES_FROM_FILE": "/nowhere"})


@pytest.mark.parametrize(
    ("environ", "key", "value"),
    [
        ({"FLYTE_CREDENTIALS_CLIENT_SECRET": "s"}, "clientSecretEnvVar", "FLYTE_CREDENTIALS_CLIENT_SECRET"),
        ({"FLYTE_CREDENTIALS_CLIENT_SECRET_FROM_ENV_VAR": "MINE", "MINE": "s"}, "clientSecretEnvVar", "MINE"),
        ({"FLYTE_CREDENTIALS_CLIENT_SECRET_ENV_VAR": "MINE", "MINE": "s"}, "clientSecretEnvVar", "MINE"),
        ({"FLYTE_CREDENTIALS_CLIENT_SECRET_FROM_FILE": "{home}/secret"}, "clientSecretLocation", "{home}/secret"),
        ({"FLYTE_CREDENTIALS_CLIENT_SECRET_LOCATION": "{home}/secret"}, "clientSecretLocation", "{home}/secret"),
    ],
)
def test_where_a_client_secret_may_be_and_it_is_never_held(
    tmp_path: Path, environ: dict[str, str], key: str, value: str
) -> None:
    other = {"clientSecretLocation": "/file"} if key == "clientSecretEnvVar" else {"clientSecretEnvVar": "FILE"}
    secret(tmp_path)
    filled = {name: text.format(home=tmp_path) for name, text in environ.items()}
    config = flyte_config.load(written(tmp_path, {"admin": other}) | filled)
    assert config.has_secret
    assert getattr(config.admin, key) == value.format(home=tmp_path)
    assert getattr(config.admin, next(iter(other))) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("admin: [", "not YAML"),
        ({"admin": {"insecure": "maybe"}}, "admin.insecure"),
        ({"admin": {"scopes": 5}}, "admin.scopes"),
        ({"admin": {"scopes": ['a"b']}}, "admin.scopes"),
        ({"admin": {"clientId": 5}}, "admin.clientId"),
        ({"admin": {"command": [1]}}, "admin.command"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, content: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        flyte_config.load(written(tmp_path, content))


def test_a_bad_boolean_names_its_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FLYTE_PLATFORM_INSECURE cannot be 'maybe'"):
        flyte_config.load({"HOME": str(tmp_path), "FLYTE_PLATFORM_INSECURE": "maybe"})
    with pytest.raises(ConfigError, match="FLYTE_PLATFORM_AUTH"):
        flyte_config.load({"HOME": str(tmp_path), "FLYTE_PLATFORM_AUTH": "perhaps"})


def test_a_file_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    environ = written(tmp_path, {"admin": {"command": ["evil"]}})
    (tmp_path / ".flyte" / "config.yaml").chmod(0o666)
    with pytest.raises(ConfigError, match="can be written by others"):
        flyte_config.load(environ)


def test_the_file_is_the_one_that_is_named_else_the_first_of_the_users_own(tmp_path: Path) -> None:
    environ = written(tmp_path, {"admin": {"endpoint": "yaml"}})
    assert flyte_config.load(environ).admin.endpoint == "yaml"
    written(tmp_path, "[platform]\nurl = ini\ninsecure = 1\n[credentials]\nscopes = a,b\nclient_id = c\n", "config")
    ini = flyte_config.load(environ).admin
    assert (ini.endpoint, ini.insecure, ini.scopes, ini.clientId) == ("ini", True, ("a", "b"), "c")
    named = tmp_path / "named.yaml"
    named.write_text("admin: {endpoint: named}\n")
    named.chmod(0o600)
    assert flyte_config.load(environ | {"FLYTECTL_CONFIG": str(named)}).admin.endpoint == "named"
    with pytest.raises(ConfigError, match=r"FLYTECTL_CONFIG names /nowhere\.yaml, which is not there"):
        flyte_config.load(environ | {"FLYTECTL_CONFIG": "/nowhere.yaml"})


def test_a_file_in_the_working_directory_is_refused_unless_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, here = written(tmp_path, {"admin": {"endpoint": "yaml"}}), tmp_path / "cloned" / "flytekit.config"
    here.parent.mkdir()
    here.write_text("[platform]\nurl = here\n")
    here.chmod(0o600)
    monkeypatch.chdir(here.parent)
    for read in (flyte_config.load, flyte_config.check_variables):
        with pytest.raises(ConfigError, match=f"would read its configuration from {here}") as caught:
            read(environ)
        assert f"FLYTECTL_CONFIG={here}" in caught.value.hint
    assert flyte_config.load(environ | {"FLYTECTL_CONFIG": str(here)}).admin.endpoint == "here"
    assert flyte_config.load(environ | {"_FLYTECTL_CONFIG_PYFLYTE_OVERRIDE": here.name}).admin.endpoint == "here"


# From there to a provider.


def spec(environ: dict[str, str], name: str = "flyte") -> object:
    return default_order.spec(name, Settings(), environ)


@pytest.mark.parametrize(
    ("auth_type", "kind"),
    [
        (None, Unconfigured),
        ("Pkce", PkceSpec),
        ("standard", PkceSpec),
        ("DeviceFlow", DeviceSpec),
        ("deviceflow", DeviceSpec),
        ("ExternalCommand", CommandSpec),
        ("external_process", CommandSpec),
        ("Passthrough", PassthroughSpec),
        ("authagent", Unconfigured),
    ],
)
def test_every_auth_type_has_its_provider(tmp_path: Path, auth_type: str | None, kind: type) -> None:
    assert isinstance(spec(written(tmp_path, {"admin": EVERYTHING | {"authType": auth_type}})), kind)


@pytest.mark.parametrize("auth_type", ["ClientSecret", "basic", "client_credentials", "Pkce", "ExternalCommand"])
def test_a_client_secret_goes_before_the_auth_type_as_with_flytekit(tmp_path: Path, auth_type: str) -> None:
    admin = EVERYTHING | {"authType": auth_type, "clientSecretLocation": str(secret(tmp_path))}
    made = spec(written(tmp_path, {"admin": admin}))
    assert isinstance(made, ClientCredentialsSpec)
    assert made.client_secret_file == tmp_path / "secret"
    assert spec({"HOME": str(tmp_path)}, "client_credentials") == made


def test_what_is_configured_reaches_the_provider(tmp_path: Path) -> None:
    made = spec(written(tmp_path, {"admin": EVERYTHING}))
    assert isinstance(made, PkceSpec)
    assert (made.client_id, made.scopes, made.audience, made.audience_from_flyte) == (
        "mine",
        ("all", "offline"),
        "aud",
        True,
    )
    assert (str(made.ca_file), made.insecure_skip_verify, made.proxy) == (
        "/etc/ca.pem",
        True,
        "http://proxy.example.com:3128",
    )
    assert isinstance(spec({"HOME": str(tmp_path)}, "keyring"), KeyringSpec)


def test_an_auth_type_that_there_is_not_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml asks for the authType 'Kerberos'"):
        spec(written(tmp_path, {"admin": EVERYTHING | {"authType": "Kerberos"}}))


def test_what_does_not_make_a_provider_says_what_is_missing(tmp_path: Path) -> None:
    admin = {"endpoint": "e", "authType": "ClientSecret", "clientSecretLocation": str(secret(tmp_path))}
    with pytest.raises(ConfigError, match="client_credentials: needs a client_id"):
        spec(written(tmp_path, {"admin": admin}))
    with pytest.raises(ConfigError, match="client_credentials"):
        spec(written(tmp_path, {"admin": {"endpoint": "e", "authType": "ClientSecret"}}))
    with pytest.raises(ConfigError, match=r"asks for the authType 'ExternalCommand', and no command is set"):
        spec(written(tmp_path, {"admin": {"endpoint": "e", "authType": "ExternalCommand"}}))


SPELLINGS = {
    "Pkce": PkceSpec,
    "pkce": PkceSpec,
    "standard": PkceSpec,
    "DeviceFlow": DeviceSpec,
    "DEVICEFLOW": DeviceSpec,
    "ExternalCommand": CommandSpec,
    "external_process": CommandSpec,
    "Passthrough": PassthroughSpec,
    "authagent": Unconfigured,
}
"""What a file may say, and what serves it."""

OURS = (
    {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"},
    {"FLYTE_CREDENTIALS_AUTH_MODE": "AuthAgent"},
    {"FLYTE_CREDENTIALS_AUTH_MODE_FROM_ENV_VAR": "ELSEWHERE", "ELSEWHERE": "AUTHAGENT"},
    {"FLYTE_CREDENTIALS_AUTH_MODE_FROM_FILE": "{home}/mode"},
)
"""How the environment says that flytekit's own clients use this package."""


@pytest.mark.parametrize("ini", [False, True], ids=["yaml", "ini"])
@pytest.mark.parametrize("ours", OURS, ids=str)
@pytest.mark.parametrize("auth_type", SPELLINGS)
def test_what_flytekits_clients_use_does_not_hide_what_the_file_asks_for(
    tmp_path: Path, auth_type: str, ours: dict[str, str], ini: bool
) -> None:
    (tmp_path / "mode").write_text("authagent\n")
    (tmp_path / "mode").chmod(0o600)
    if ini:
        section = f"[credentials]\nauth_mode = {auth_type}\ncommand = echo,token\n"
        environ = written(tmp_path, f"[platform]\nurl = flyte.example.com\n{section}", "config")
    else:
        environ = written(tmp_path, {"admin": EVERYTHING | {"authType": auth_type}})
    environ |= {name: text.format(home=tmp_path) for name, text in ours.items()}
    assert flyte_config.load(environ).by_authagent
    assert isinstance(spec(environ), SPELLINGS[auth_type])
    assert isinstance(spec(environ, "login"), PkceSpec if auth_type == "authagent" else Unconfigured)
    other = environ | {"FLYTE_CREDENTIALS_AUTH_MODE": "DeviceFlow"}
    assert isinstance(spec(other), DeviceSpec), "another mode goes before the file's, as every variable does"


def test_no_configuration_is_none() -> None:
    assert isinstance(default_order.of_flyte(FlyteConfig()), Unconfigured)


def test_the_table_of_the_documentation_is_this() -> None:
    text = (Path(__file__).parent.parent / "docs" / "configuration.md").read_text()
    rows = text.split("<!-- flyte-config -->")[1].split("\n\n")[0].splitlines()[3:]
    table = {
        key.strip(" `"): tuple(v.strip(" `") for v in names.split(","))
        for _, key, names, _ in (r.split("|") for r in rows)
    }
    assert table == flyte_config.VARIABLES
    assert set(flyte_config.Admin.model_fields) == {*table, "useAudienceFromAdmin", "tokenUrl"}  # keys of the file only
