"""What holds for every test: an environment of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flytekitplugins.authagent import discovery
from flytekitplugins.authagent.providers import env
from flytekitplugins.authagent.sources import process_wide

if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup, and every program that is started would ignore it
    signal.signal(signal.SIGHUP, lambda *_: None)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background of a shell, likewise
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Where Python may not keep what it compiled, every program that is started compiles all of flytekit: 2.5 s each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path) -> Iterator[None]:
    """Nothing of the machine's environment reaches a test, and nothing of a test's the next one."""
    saved = dict(os.environ)
    for name in saved:
        if name.startswith(("FLYTE", "AUTHAGENT", "_F", "XDG_RUNTIME")):
            del os.environ[name]
    os.environ["HOME"] = str(tmp_path)
    process_wide.clear()
    discovery.forget()  # another Flyte may have been at the same port
    env._taken.clear()  # what it took out of the environment of another test
    yield
    os.environ.clear()
    os.environ.update(saved)
