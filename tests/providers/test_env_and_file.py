"""Tokens that somebody else puts where we find them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tokens import jwt

from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.env import EnvProvider
from flytekitplugins.authagent.providers.file import FileProvider


def test_the_variable_leaves_the_environment_and_no_child_inherits_it() -> None:
    os.environ["AUTHAGENT_TOKEN"] = "t0ken"
    found = [EnvProvider().fetch(Wanted()) for _ in range(2)]

    assert [c and c.token.reveal() for c in found] == ["t0ken"] * 2
    show = "import os; print(dict(os.environ))"
    child = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout
    assert "HOME" in child
    assert "t0ken" not in child
    assert os.fork and subprocess.run(["env"], capture_output=True, text=True, check=True).stdout.count("t0ken") == 0


def test_a_new_value_replaces_the_old_and_an_empty_one_takes_it_away() -> None:
    os.environ["AUTHAGENT_TOKEN"] = "one"
    EnvProvider().fetch(Wanted())
    os.environ["AUTHAGENT_TOKEN"] = "two\n"
    found = EnvProvider().fetch(Wanted())
    assert found is not None
    assert found.token.reveal() == "two"
    os.environ["AUTHAGENT_TOKEN"] = ""
    assert EnvProvider().fetch(Wanted()) is None


def test_what_is_not_a_token_is_an_error_each_time_until_it_is_replaced() -> None:
    os.environ["AUTHAGENT_TOKEN"] = "two words"
    for _ in range(2):
        with pytest.raises(ConfigError, match="AUTHAGENT_TOKEN does not hold a bearer token"):
            EnvProvider().fetch(Wanted())
    os.environ["AUTHAGENT_TOKEN"] = "one"
    assert EnvProvider().fetch(Wanted()) is not None


def written(path: Path, content: str | bytes, mode: int = 0o600) -> FileProvider:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return FileProvider(path)


def test_a_file_is_read_again_when_it_is_replaced_as_kubelet_replaces_it(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"..{n}").mkdir()
        written(tmp_path / f"..{n}" / "token", f"token-{n}")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    provider = FileProvider(tmp_path / "token")
    first = provider.fetch(Wanted())
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    second = provider.fetch(Wanted())

    assert first and second
    assert (first.token.reveal(), second.token.reveal()) == ("token-1", "token-2")


def test_a_json_credential_says_what_it_is_for(tmp_path: Path) -> None:
    content = {
        "access_token": "abc",
        "expires_at": "2099-01-01T00:00:00Z",
        "scope": "a b",
        "endpoint": "dns:///flyte.example.com",
        "authorization_metadata_key": "flyte-authorization",
    }
    found = written(tmp_path / "c", json.dumps(content)).fetch(Wanted())
    assert found is not None
    assert (found.scopes, found.endpoint, found.header) == (
        ("a", "b"),
        "dns:///flyte.example.com",
        "flyte-authorization",
    )
    assert found.expires_at == 4070908800.0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "path names .* which is empty"),
        ("two words", "RFC 6750"),
        (b"\xff\xfe", "is not text"),
        ("{", "neither a token nor a JSON credential"),
        ('{"access_token": "a", "expires_in": 5}', "expires_in"),
        ('{"access_token": 5}', "access_token"),
        ('{"access_token": "a", "expires_at": "2099-01-01T00:00:00"}', "neither"),
        ('{"access_token": "a", "expires_at": "soon"}', "neither"),
        ('{"access_token": "a", "token_type": "DPoP"}', "token_type"),
        ("[" * 5000, "RFC 6750"),
        ('{"a":' * 5000, "neither"),
    ],
)
def test_a_file_that_holds_no_credential(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        written(tmp_path / "file", content).fetch(Wanted())


def test_a_file_that_others_may_write_is_refused_and_in_a_pod_others_may_read_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can be written by others"):
        written(tmp_path / "file", "abc", 0o606).fetch(Wanted())
    readable = written(tmp_path / "file", "abc", 0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        readable.fetch(Wanted())
    assert FileProvider(tmp_path / "file", in_pod=True).fetch(Wanted())


def test_a_file_that_is_configured_and_missing_is_broken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"path names .* which is not there"):
        FileProvider(tmp_path / "none").fetch(Wanted())


def test_the_end_is_that_of_the_token_itself(tmp_path: Path) -> None:
    ends = int(time.time()) + 77
    found = written(tmp_path / "file", jwt(exp=ends)).fetch(Wanted())
    assert found is not None
    assert found.expires_at == ends
