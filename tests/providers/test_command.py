"""Programs that print a token, and all that they may do instead."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flytekitplugins.authagent import program
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.providers.command import CommandProvider
from flytekitplugins.authagent.specs import CommandSpec


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


def test_at_a_terminal_its_standard_error_is_shown_as_it_comes(tmp_path: Path) -> None:
    shown = tmp_path / "terminal"
    script = f"echo 'enter the code AB-CD' >&2; until grep -q AB-CD {shown}; do sleep 0.05; done; echo t0ken"
    with shown.open("w") as terminal:
        assert program.output(["sh", "-c", script], timeout=30, terminal=terminal) == "t0ken"
    assert shown.read_text() == "enter the code AB-CD\n"


def test_who_waits_long_is_told_for_what(tmp_path: Path) -> None:
    shown = tmp_path / "terminal"
    script = f"until grep -q Waiting {shown}; do sleep 0.05; done; echo t0ken"
    with shown.open("w") as terminal:
        assert program.output(["sh", "-c", script], timeout=30, terminal=terminal, notice=0.1) == "t0ken"
    said = shown.read_text()
    assert said.startswith("Waiting for sh, for ")
    assert said.count("\n") == 1
    assert "t0ken" not in said


def test_at_a_terminal_it_is_given_up_too(tmp_path: Path) -> None:
    with (tmp_path / "terminal").open("w") as terminal, pytest.raises(ProviderUnavailable, match=r"within 0\.3 s"):
        program.output(["sleep", "60"], timeout=0.3, terminal=terminal, notice=0.1)


@pytest.mark.parametrize(
    ("timeout", "at_terminal", "seconds"),
    [({}, False, 30.0), ({}, True, 300.0), ({"timeout": 5}, True, 5.0), ({"timeout": 5}, False, 5.0)],
)
def test_it_has_the_patience_of_a_login_at_a_terminal_unless_configured(
    timeout: dict[str, float], at_terminal: bool, seconds: float
) -> None:
    provider = CommandProvider(CommandSpec(command=("true",), **timeout), at_terminal=at_terminal)  # type: ignore[arg-type]
    assert provider.timeout == seconds
