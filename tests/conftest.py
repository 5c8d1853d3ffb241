"""What holds for every test: an environment of its own (see machine.py)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine
import peers
import pytest

machine.leave()  # before flytekit is imported, which reads its configuration then

from flytekitplugins.authagent import discovery  # noqa: E402
from flytekitplugins.authagent.providers import env  # noqa: E402
from flytekitplugins.authagent.sources import process_wide  # noqa: E402

if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup, and every program that is started would ignore it
    signal.signal(signal.SIGHUP, lambda *_: None)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell, likewise
    signal.signal(signal.SIGINT, signal.default_int_handler)

sys.dont_write_bytecode = False  # or every program that is started compiles all of flytekit: 2.5 s each


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist what the machine's environment was."""
    node.workerinput["found"] = machine.FOUND


def pytest_configure(config: pytest.Config) -> None:
    """Take down what the machine's environment was, in a worker."""
    machine.FOUND.update(getattr(config, "workerinput", {}).get("found", {}))


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path) -> Iterator[None]:
    """Nothing of the machine's environment reaches a test, and nothing of a test's the next one."""
    saved = dict(os.environ)
    own = machine.environment(tmp_path)
    os.environ.clear()
    os.environ.update({name: text for name, text in own.items() if name not in peers.VARIABLES})
    process_wide.clear()
    discovery.forget()  # another Flyte may have been at the same port
    env._taken.clear()  # what it took out of the environment of another test
    yield
    os.environ.clear()
    os.environ.update(saved)
