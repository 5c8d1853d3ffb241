"""Whatever a configuration file holds, or is: a running agent refuses it, goes on as before, and tells systemd so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import running_agent
import running_provider
from running_agent import Agent

WHO = "socket: {socket}\nupstreams: {{}}\nrules:\n- name: a\n  who: {{uid: %s}}\n  give: {{upstream: u}}\n"

CONTENTS = {
    "a date that is none": (WHO % "[2026-13-45]", "line 5: rules.0.who.uid.0: cannot be read as YAML's timestamp"),
    "a date": (WHO % "2026-12-01", "line 5: rules.0.who.uid"),
    "an hour that is none": (WHO % "2026-12-01 25:00:00", "line 5: rules.0.who.uid"),
    "a number of 5000 digits": (WHO % ("9" * 5000), "line 5: rules.0.who.uid: cannot be read as YAML's int"),
    "a hexadecimal number that has 5000 digits": (
        WHO % ("0x" + "f" * 5000),
        "line 5: rules.0.who.uid: cannot be read as",
    ),
    "a number of 65 bits": (WHO % str(1 << 64), "line 5: rules.0.who.uid: cannot be read as YAML's int"),
    "the same as a key": ("? " + "9" * 5000 + "\n: 1\n", "cannot be read as YAML's int"),
    "a hexadecimal number without digits": (WHO % "0x_", "line 5: rules.0.who.uid"),
    "a truth that is none": (WHO % "!!bool maybe", "line 5: rules.0.who.uid: cannot be read as YAML's bool"),
    "a uid that is a truth": (WHO % "true", "line 5: rules.0.who.uid.0"),
    "a uid that is too large": (WHO % "4294967295", "line 5: rules.0.who.uid.0"),
    "a uid below zero": (WHO % "-1", "line 5: rules.0.who.uid.0"),
    "a mapping that holds itself": ("a: &a [*a]\n", "nested too deeply"),
    "aliases without end": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)),
        "unfolds to more than",
    ),
    "brackets without end": ("[" * 20_000, "nested too deeply"),
    "a merge key": ("<<: {{a: 1}}\n", "a merge key"),
    "a tag": ("rules: !!python/object/apply:os.system [id]\n", "line 1: rules: not YAML as it is read here: a tag"),
    "a key twice": ("rules: []\nrules: []\n", "line 2: 'rules' stands here twice"),
    "an escape for no character": ('a: "\\UFFFFFFFF"\n', "an escape that stands for no character"),
    "a NUL": ("a: b\nc: \0\n", "line 2: not YAML: a character that YAML does not allow"),
    "a NUL in a path": ('socket: "/a\\0b"\nupstreams: {{}}\nrules: []\n', "socket: no path has a NUL"),
    "somebody's home that is none": (
        "socket: ~nobody-of-that-name/x\nupstreams: {{}}\nrules: []\n",
        "socket: ~ stands",
    ),
    "a port that is none": ("health: '127.0.0.1:65536'\nupstreams: {{}}\nrules: []\n", "health: write it as HOST:PORT"),
    "a port of 5000 digits": (f"health: 'a:{'9' * 5000}'\nupstreams: {{{{}}}}\nrules: []\n", "health: write it as"),
    "100000 unknown keys": ("".join(f"k{n}: 1\n" for n in range(20_000)), "unknown key"),
    "another document": ("a: b\n---\nc: d\n", "another document"),
    "nothing": ("", "upstreams: is missing"),
    "a list": ("- a\n", "line 1: the file"),
}


def not_text(file: Path) -> None:
    file.write_bytes(b"rules: []\n\xff\xfe")


def too_large(file: Path) -> None:
    with file.open("wb") as content:
        content.truncate(2 << 20)


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def listening(file: Path) -> None:
    file.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(file))


def loop(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.name)


def others_may_write(file: Path) -> None:
    file.chmod(0o666)


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "bytes that are no text": (not_text, "line 2: not UTF-8"),
    "2 MiB": (too_large, "is larger than"),
    "a FIFO": (fifo, "is not a regular file"),
    "a device": (device, "is not a regular file"),
    "a directory": (directory, "is not a regular file"),
    "a socket": (listening, "is not a regular file"),
    "a link to itself": (loop, "symbolic links"),
    "none": (Path.unlink, "is not there"),
    "one that others may write": (others_may_write, "can be written by others"),
}


@dataclass
class Told:
    """An agent, and what it tells whoever started it (sd_notify(3))."""

    agent: Agent
    socket: socket.socket

    def next(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.socket.recv(8192).decode().splitlines())


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, running_provider.running() as provider:
        told.bind(f"\0authagent-refused-{os.getpid()}")
        told.settimeout(60)
        name = "@" + told.getsockname()[1:].decode()
        with running_agent.running(provider, environ={"NOTIFY_SOCKET": name}) as agent:
            it = Told(agent, told)
            assert it.next()["READY"] == "1"
            yield it


def refused(told: Told, says: str) -> None:
    """Reload: the agent says RELOADING and READY, names what is wrong in one line, and serves the token it had."""
    agent = told.agent
    lines = len(agent.log.read_text().splitlines())
    token = agent.ask().json()["access_token"]
    before = time.monotonic_ns() // 1000

    agent.process.send_signal(signal.SIGHUP)
    reloading, ready = told.next(), told.next()

    assert reloading["RELOADING"] == "1"
    assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert ready["READY"] == "1"
    assert "the last reload failed" in ready["STATUS"]
    assert agent.ask().json()["access_token"] == token
    logged = [json.loads(line) for line in agent.log.read_text().splitlines()[lines:]]
    (warning,) = [line for line in logged if line["level"] == "warning"]
    assert warning["message"].startswith("reload failed: the previous configuration stays in force: ")
    assert says in warning["message"]
    assert len(warning["message"]) < 4000
    assert not any("error" in line for line in logged), "a traceback"


@pytest.fixture
def file(told: Told) -> Iterator[Path]:
    file, good = told.agent.file, told.agent.file.read_bytes()
    yield file
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    file.write_bytes(good)
    file.chmod(0o600)


@pytest.mark.parametrize("name", CONTENTS)
def test_content_that_cannot_be_used(told: Told, file: Path, name: str) -> None:
    content, says = CONTENTS[name]
    file.write_text(content.format(socket=told.agent.socket), encoding="utf-8")
    refused(told, says)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used(told: Told, file: Path, name: str) -> None:
    make, says = FILES[name]
    make(file)
    refused(told, says)


def test_it_adopts_a_good_one_afterwards(told: Told) -> None:
    told.agent.process.send_signal(signal.SIGHUP)
    assert told.next()["RELOADING"] == "1"
    ready = told.next()
    assert (ready["READY"], "failed" in ready["STATUS"]) == ("1", False)
