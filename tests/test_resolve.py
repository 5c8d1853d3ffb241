"""From what is asked to a source: which provider, which Flyte, and why not."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import MutableMapping
from pathlib import Path

import pytest
import running_provider
import yaml

from flytekitplugins.authagent import config
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.context import Context, RunAs
from flytekitplugins.authagent.errors import ConfigError, Denied, NoCredential, ProviderError
from flytekitplugins.authagent.resolve import Resolution, resolve
from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.posture import Posture

Environment = MutableMapping[str, str]


@pytest.fixture
def environ(tmp_path: Path) -> Environment:
    """The process's own, which is the test's own, with nothing configured: no socket, no file, no variable."""
    os.environ.update(HOME=str(tmp_path), XDG_RUNTIME_DIR=str(tmp_path))
    return os.environ


def configured(environ: Environment, bindings: list[dict[str, object]]) -> None:
    file = Path(environ["HOME"], "authagent.yaml")
    file.write_text(yaml.safe_dump({"bindings": bindings}))
    file.chmod(0o600)
    environ["AUTHAGENT_CONFIG"] = str(file)


def token_file(environ: Environment, content: str, name: str = "token") -> Path:
    file = Path(environ["HOME"], name)
    file.write_text(content)
    file.chmod(0o600)
    return file


def resolved(environ: Environment, asked: Asked | None = None) -> Resolution:
    return resolve(asked or Asked(), config.load(environ), environ)


def token_of(resolution: Resolution) -> str:
    return resolution.source.get().token.reveal()


def attempts(error: NoCredential) -> str:
    return "; ".join(f"{a.provider}: {a.reason} -> {a.remedy}" for a in error.attempts)


def test_with_nothing_configured_everything_tried_is_kept_within_a_second(environ: Environment) -> None:
    started = time.monotonic()
    with pytest.raises(NoCredential) as caught:
        resolved(environ)

    assert time.monotonic() - started < 1
    for tried in (
        "agent: there is no socket at",
        "file: AUTHAGENT_TOKEN_FILE is not set",
        "env: AUTHAGENT_TOKEN is not",
    ):
        assert tried in attempts(caught.value)
    for remedy in ("authagent serve", "set AUTHAGENT_TOKEN_FILE", "set AUTHAGENT_TOKEN "):
        assert remedy in attempts(caught.value)
    assert attempts(caught.value.again()) == attempts(caught.value)  # type: ignore[arg-type]
    assert len(str(caught.value)) <= 300


def test_names_that_are_long_do_not_make_an_error_long(environ: Environment) -> None:
    long = Context(*("x" * 5000 for _ in range(4)), run_as=RunAs(k8s_service_account="y" * 5000))
    with pytest.raises(NoCredential) as caught:
        resolved(environ, Asked(long))
    assert len(str(caught.value)) <= 450


def test_the_default_order_is_agent_file_env_first(environ: Environment) -> None:
    environ["AUTHAGENT_TOKEN"] = "from-env"
    environ["AUTHAGENT_TOKEN_FILE"] = str(token_file(environ, "from-file"))
    assert token_of(resolved(environ)) == "from-file"
    del environ["AUTHAGENT_TOKEN_FILE"]
    assert token_of(resolved(environ)) == "from-env"


def test_configured_and_broken_stops(environ: Environment) -> None:
    environ["AUTHAGENT_TOKEN"] = "from-env"
    environ["AUTHAGENT_TOKEN_FILE"] = "/nowhere/token"
    with pytest.raises(ConfigError, match="AUTHAGENT_TOKEN_FILE names /nowhere/token, which is not there"):
        resolved(environ)


def test_a_pinned_provider_is_the_only_one(environ: Environment) -> None:
    environ["AUTHAGENT_TOKEN_FILE"] = str(token_file(environ, "from-file"))
    environ["AUTHAGENT_PROVIDER"] = "env"
    with pytest.raises(
        NoCredential, match=r"^no credential for this process: AUTHAGENT_TOKEN is not set \(hint: set AUTHAGENT_TOKEN "
    ) as caught:
        resolved(environ)
    assert [attempt.provider for attempt in caught.value.attempts] == ["env"]


def test_the_first_binding_that_matches_decides_and_none_is_an_error(environ: Environment) -> None:
    one, two = token_file(environ, "one", "one"), token_file(environ, "two", "two")
    environ["AUTHAGENT_TOKEN"] = "from-env"
    configured(
        environ,
        [
            {"when": {"task": "billing.*"}, "provider": {"kind": "file", "path": str(one)}},
            {"when": {"project": "p"}, "provider": {"kind": "file", "path": str(two)}},
        ],
    )
    assert token_of(resolved(environ, Asked(Context(project="p", task="billing.daily")))) == "one"
    assert token_of(resolved(environ, Asked(Context(project="p", task="other")))) == "two"
    with pytest.raises(NoCredential) as caught:
        resolved(environ, Asked(Context(project="q", task="other")))
    assert re.search(r"none of the 2 bindings in .*authagent\.yaml matches", str(caught.value))
    assert "binding 1: task is other, not billing.* -> " in attempts(caught.value)
    assert "binding 2: project is q, not p -> " in attempts(caught.value)


def test_one_binding_that_is_broken_does_not_fall_through(environ: Environment) -> None:
    environ["AUTHAGENT_TOKEN"] = "from-env"
    configured(environ, [{"provider": {"kind": "file", "path": "/nowhere"}}, {"provider": {"kind": "env"}}])
    with pytest.raises(ConfigError, match=r"authagent\.yaml: path names /nowhere, which is not there"):
        resolved(environ)


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (("a.example.com", None, None, None), "a.example.com"),
        (("a.example.com", "b.example.com", "c.example.com", None), "a.example.com"),
        ((None, "b.example.com", "c.example.com", None), "b.example.com"),
        ((None, None, "c.example.com", None), "c.example.com"),
        ((None, None, None, "d.example.com"), "d.example.com"),
        ((None, None, None, None), None),
    ],
)
def test_which_flyte(environ: Environment, named: tuple[str | None, ...], found: str | None) -> None:
    """By the argument, the binding, the configuration, the source: in this order."""
    argument, binding, flyte, file = named
    content = '{"access_token": "abc"' + (f', "endpoint": "{file}"' if file else "") + "}"
    rule: dict[str, object] = {"provider": {"kind": "file", "path": str(token_file(environ, content))}}
    configured(environ, [rule | ({"endpoint": binding} if binding else {})])
    resolution = resolved(environ, Asked(endpoint=argument, configured=flyte))
    assert (resolution.endpoint.target if resolution.endpoint else None) == found


def test_a_token_for_one_flyte_goes_to_no_other(environ: Environment) -> None:
    content = '{"access_token": "abc", "endpoint": "one.example.com"}'
    environ["AUTHAGENT_TOKEN_FILE"] = str(token_file(environ, content))
    assert resolved(environ, Asked(endpoint="https://ONE.example.com:443")).provider == "file"
    with pytest.raises(ConfigError, match=r"is for one\.example\.com, not for two\.example\.com"):
        resolved(environ, Asked(endpoint="two.example.com"))


def test_a_principal_that_nobody_can_give_is_refused(environ: Environment) -> None:
    environ["AUTHAGENT_TOKEN"] = "opaque"
    with pytest.raises(Denied, match="speaks for 'alice'"):
        resolved(environ, Asked(Context(run_as=RunAs(execution_identity="alice"))))
    with pytest.raises(Denied, match="a token of the client 'batch'"):
        resolved(environ, Asked(Context(run_as=RunAs(oauth2_client="batch"))))


def test_a_binding_for_an_identity_answers_for_it(environ: Environment) -> None:
    path = token_file(environ, "for-alice")
    rule = {"when": {"execution_identity": "alice"}, "provider": {"kind": "file", "path": str(path)}}
    configured(environ, [rule])
    assert token_of(resolved(environ, Asked(Context(run_as=RunAs(execution_identity="alice"))))) == "for-alice"


def test_the_same_question_is_answered_by_the_same_source(environ: Environment) -> None:
    environ["AUTHAGENT_TOKEN"] = "opaque"
    first = resolved(environ, Asked(scopes=("b", "a"))).source
    assert resolved(environ, Asked(scopes=("a", "b"))).source is first
    assert resolved(environ, Asked(scopes=("a",))).source is not first
    assert resolved(environ, Asked(endpoint="x.example.com")).source is not first


def test_in_a_pod_a_mounted_directory_means_that_the_agent_is_waited_for(environ: Environment, tmp_path: Path) -> None:
    socket, pod = tmp_path / "mounted" / "agent.sock", environ
    pod.update(FLYTE_INTERNAL_EXECUTION_ID="x", AUTHAGENT_SOCKET=str(socket), AUTHAGENT_TOKEN="from-env")
    with pytest.raises(ConfigError, match=r"AUTHAGENT_SOCKET names .*, where there is no socket"):
        resolved(pod)
    socket.parent.mkdir()
    rule = {"provider": {"kind": "agent", "socket": str(socket), "wait": 0.5}}
    configured(pod, [rule])
    started = time.monotonic()
    with pytest.raises(ProviderError, match=r"there is no socket at .* after 0\.5 s"):
        resolved(pod)
    assert 0.4 < time.monotonic() - started < 5


def test_authentication_that_is_switched_off_sends_nothing(environ: Environment) -> None:
    environ["FLYTE_PLATFORM_AUTH"] = "0"
    environ["AUTHAGENT_TOKEN_FILE"] = str(token_file(environ, "from-file"))
    found = resolved(environ)
    assert (found.provider, found.source.get().is_anonymous) == ("none", True)
    environ["AUTHAGENT_PROVIDER"] = "file"
    assert token_of(resolved(environ)) == "from-file"
    del environ["AUTHAGENT_PROVIDER"]
    environ["FLYTE_PLATFORM_AUTH"] = "off"
    with pytest.raises(ConfigError, match="FLYTE_PLATFORM_AUTH cannot be 'off'"):
        resolved(environ)


def test_what_flytes_configuration_says_is_tried_last_and_outside_a_pod_only(environ: Environment) -> None:
    config_file = Path(environ["HOME"], ".flyte", "config.yaml")
    config_file.parent.mkdir(mode=0o700)
    admin = {"endpoint": "flyte.example.com", "authType": "ExternalCommand", "command": ["echo", "from-command"]}
    config_file.write_text(yaml.safe_dump({"admin": admin}))
    config_file.chmod(0o600)
    environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"
    assert token_of(resolved(environ)) == "from-command"
    environ["AUTHAGENT_TOKEN_FILE"] = str(token_file(environ, "from-file"))
    assert token_of(resolved(environ)) == "from-file"
    del environ["AUTHAGENT_TOKEN_FILE"]
    environ["FLYTE_INTERNAL_EXECUTION_ID"] = "x"
    with pytest.raises(NoCredential) as caught:
        resolved(environ)
    assert "command" not in str(caught.value)


def test_a_flyte_configuration_that_is_broken_does_not_hurt_who_does_not_need_it(environ: Environment) -> None:
    config_file = Path(environ["HOME"], ".flyte", "config.yaml")
    config_file.parent.mkdir(mode=0o700)
    config_file.write_text("admin: [")
    config_file.chmod(0o600)
    environ["AUTHAGENT_TOKEN_FILE"] = str(token_file(environ, "from-file"))
    assert token_of(resolved(environ)) == "from-file"


def test_the_header_is_the_bindings_else_that_of_flytes_configuration_for_this_flyte(environ: Environment) -> None:
    config_file = Path(environ["HOME"], ".flyte", "config.yaml")
    config_file.parent.mkdir(mode=0o700)
    config_file.write_text("admin: {endpoint: flyte.example.com, authorizationHeader: X-Flyte}")
    config_file.chmod(0o600)
    environ["AUTHAGENT_TOKEN_FILE"] = str(token_file(environ, "from-file"))
    assert resolved(environ, Asked(configured="flyte.example.com")).header == "x-flyte"
    assert resolved(environ, Asked(endpoint="other.example.com")).header is None
    environ["FLYTE_CREDENTIALS_AUTHORIZATION_METADATA_KEY"] = "X-From-Environment"
    assert resolved(environ).header == "x-from-environment"
    spec = {"kind": "file", "path": environ["AUTHAGENT_TOKEN_FILE"]}
    configured(environ, [{"provider": spec, "authorization_header": "x-binding"}])
    assert resolved(environ).header == "x-binding"


@pytest.mark.parametrize(("scheme", "variable"), [("http://", None), ("", "FLYTE_PLATFORM_INSECURE")])
def test_an_api_key_says_which_flyte_and_how_it_is_reached(
    environ: Environment, tmp_path: Path, scheme: str, variable: str | None
) -> None:
    if variable:
        environ[variable] = "1"
    with running_provider.running() as provider:
        flyte = ControlPlane(
            issuer=provider.issuer,
            counts=provider.counts,
            faults=provider.faults,
            posture=Posture(),
            directory=tmp_path / "flyte",
            task_environment={},
        )
        flyte.start()
        key = f"{scheme}{flyte.endpoint}:batch:{provider.secret('batch')}:"
        environ["FLYTE_API_KEY"] = base64.b64encode(key.encode()).decode()
        found = resolved(environ)
        flyte.stop()
    assert found.endpoint is not None
    assert (found.provider, found.endpoint.target, found.insecure) == ("api_key", flyte.endpoint, True)
    assert token_of(found).count(".") == 2
