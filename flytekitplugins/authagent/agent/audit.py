"""The audit file: one line of JSON for each answer, written before the answer is given."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.agent.file import AuditFile
from flytekitplugins.authagent.errors import ConfigError

logger = logging.getLogger(__name__)


class Audit:
    """
    Appends to a file that only we write. `ready` is whether the last record got there.

    Each record is one `write` to a descriptor opened for appending, so that records of two agents do not mix.
    """

    def __init__(self, file: AuditFile | None, now: Callable[[], float] = time.time) -> None:
        self._required = file is not None and file.required
        self._now = now
        self._descriptor = None if file is None else _opened(file.path)
        self.ready = True

    def write(self, record: dict[str, Any]) -> bool:
        """Whether the caller may be answered: the record is written, or need not be."""
        return self.append(compact({"time": round(self._now(), 3), **record}) + "\n")

    def append(self, record: str) -> bool:
        """`write` for a record that is a line already: the one of a token is made in advance, but for its moment."""
        if self._descriptor is None:
            return True
        line = record.encode()
        try:
            written = os.write(self._descriptor, line)
        except OSError as failed:
            self._cannot(failed.strerror or "it failed")
        else:
            if written == len(line):
                self.ready = True
            else:
                self._cannot("only a part of it fitted")
        return self.ready or not self._required

    def close(self) -> None:
        """Nothing is written any more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _cannot(self, why: str) -> None:
        if self.ready:
            logger.error("an audit record cannot be written: %s", why)
        self.ready = False


def compact(content: dict[str, Any]) -> str:
    """JSON on one line: whatever callers put into it, it has no line break."""
    return json.dumps(content, separators=(",", ":"))


def hashed(token: str) -> str:
    """What stands for a token in the file: enough to recognise one, too little to use it."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def _opened(path: Path) -> int:
    """Raises `ConfigError` where the file cannot be written, or others could have put it there."""
    try:
        trust.check_parents(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise ConfigError(f"audit: the directory of {path} is not there", hint="make it") from None
    except OSError as failed:
        raise ConfigError(f"audit: {path} cannot be written: {failed.strerror}") from None
    return descriptor
