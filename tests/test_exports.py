"""The public names are a list."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest

import flytekitplugins.authagent as package

PUBLIC = [
    "AuthAgent",
    "TokenRequest",
    "auth_metadata",
    "authenticated",
    "eager",
    "remote",
    "AuthAgentError",
    "ConfigError",
    "NoCredential",
    "ProviderError",
    "ProviderUnavailable",
    "Denied",
    "Rejected",
]


def test_the_public_names_are_these() -> None:
    assert sorted(package.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_can_be_imported_and_is_listed(name: str) -> None:
    assert getattr(package, name) is not None
    assert name in dir(package)


def test_another_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        package.nothing_of_this_name  # noqa: B018 - the access is what is tested
    with pytest.raises(ImportError):
        exec("from flytekitplugins.authagent import nothing_of_this_name")


def test_it_is_a_part_of_a_namespace() -> None:
    spec = find_spec("flytekitplugins")
    assert spec is not None
    assert spec.origin is None


@pytest.mark.parametrize(
    ("group", "value"),
    [
        ("flytekit.auth", "flytekitplugins.authagent.authenticator:authenticator"),
        ("flytekit.plugins", "flytekitplugins.authagent.auto"),
    ],
)
def test_entry_points(group: str, value: str) -> None:
    found = next(e for e in entry_points(group=group) if e.name == "authagent")
    assert found.value == value
    module, _, attribute = value.partition(":")
    assert not attribute or callable(getattr(import_module(module), attribute))


HEAVY = "flytekit authlib httpx kubernetes pydantic requests keyring yaml grpc asyncio"


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import flytekitplugins.authagent", HEAVY + " typing argparse json socket"),
        ("import flytekitplugins.authagent.cli", HEAVY + " typing argparse json socket"),
        ("import flytekitplugins.authagent.cli.token", HEAVY + " typing argparse json socket"),
        ("from flytekitplugins.authagent.errors import Denied", HEAVY + " json socket"),
        (
            "from flytekitplugins.authagent import AuthAgent",
            "authlib httpx kubernetes uvloop httptools joserfc",
        ),
        ("import flytekitplugins.authagent.auto", "flytekit authlib httpx kubernetes pydantic"),
    ],
)
def test_what_an_import_brings_with_it(statement: str, never: str) -> None:
    """Compared with a bare interpreter, which has what the machine's own start-up files import."""
    program = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) & set(never.split()) == set()
