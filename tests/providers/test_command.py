"""Programs that print a token, and all that they may do instead."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flytekitplugins.authagent import program
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable


def sh(script: str, *, timeout: float = 5.0) -> str:
    return program.output(["sh", "-c", script], timeout=timeout)


def test_what_it_prints_is_taken_without_blanks() -> None:
    assert sh("printf ' t0ken \\n\\n'") == "t0ken"


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        ("echo pl4nted; exit 3", ProviderError, "ended with status 3"),
        ("echo pl4nted; kill -9 $$", ProviderError, "ended with signal 9"),
        ("true", ProviderError, "printed nothing"),
        ("printf '\\377\\376pl4nted'", ProviderError, "not ASCII"),
        ("head -c 200000 /dev/zero | tr '\\0' p", ProviderError, "more than 65536 bytes"),
        ("yes pl4nted", ProviderError, "more than 65536 bytes"),
    ],
)
def test_everything_else_is_one_error_that_does_not_repeat_it(script: str, kind: type, says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        sh(script)
    assert "pl4nted" not in str(caught.value)
    assert caught.value.hint or "more than" in says or "ASCII" in says


@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; sleep 60", "exec >&-; sleep 60"])
def test_one_that_does_not_end_is_ended(script: str) -> None:
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable, match="did not end within"):
        sh(script, timeout=0.3)
    assert time.monotonic() - started < 5


def test_what_it_has_started_ends_with_it(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ProviderUnavailable):
        sh(f"sleep 60 & echo $! > {tmp_path}/pid; echo t0ken", timeout=0.5)
    assert time.monotonic() - started < 5
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("command", [["/no/such/program"], ["/etc/passwd"], ["a\0b"]])
def test_what_cannot_be_run_is_named(command: list[str]) -> None:
    with pytest.raises(ConfigError, match="cannot be run"):
        program.output(command, timeout=5)


def test_it_has_no_terminal_and_no_shell() -> None:
    assert program.output(["echo", "$HOME;ls"], timeout=5) == "$HOME;ls"
    assert sh("read line || echo nobody") == "nobody"
    assert os.getsid(0) != int(sh("ps -o sid= -p $$ | tr -d ' '"))
