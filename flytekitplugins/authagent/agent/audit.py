"""The audit file: one line of JSON for each answer, written before the answer is given."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.file import AuditFile
from flytekitplugins.authagent.agent.policy import scopes
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.errors import ConfigError

logger = logging.getLogger(__name__)

CLAIM = 200
"""Characters of a claim that are written down."""

STDOUT = Path("/dev/stdout")
"""Where a container has no place of its own to write to; whoever collects its output keeps the records."""

MAX_LABELS = 32
"""Labels of a pod that are written down."""


class Audit:
    """
    Appends to a file that only we write. `ready` is whether the last record got there. Any thread may write.

    Each record is one `write` to a descriptor opened for appending, so that records of two agents do not mix.
    """

    def __init__(self, file: AuditFile | None, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._required = False
        self._number: int | None = None
        self._descriptor: int | None = None
        self.ready = True
        self.open(file)

    def open(self, file: AuditFile | None) -> None:
        """
        Write to `file` from now on, even where it is the same path: it may have been moved away (logrotate).

        Other threads may be at a record: what they write to keeps its number, and so never becomes another file, such
        as a database. Raises `ConfigError` where it cannot be written; nothing has changed then.
        """
        opened = None if file is None else _opened(file.path)
        if self._number is None:
            self._number = opened
        elif opened is not None:
            os.dup2(opened, self._number, inheritable=False)
            os.close(opened)
        self._required = file is not None and file.required
        self._descriptor, self.ready = None if file is None else self._number, True

    def write(self, record: dict[str, Any]) -> bool:
        """Whether the caller may be answered: the record is written, or need not be."""
        return self.append(compact({"time": moment(self._now()), **record}) + "\n")

    def append(self, record: str) -> bool:
        """`write` for a record that is a line already: the one of a token is made in advance, but for its moment."""
        descriptor = self._descriptor
        if descriptor is None:
            return True
        line = record.encode()
        try:
            written = os.write(descriptor, line)
        except OSError as failed:
            return self._cannot(failed.strerror or "it failed")
        if written != len(line):
            return self._cannot("only a part of it fitted")
        self.ready = True
        return True

    def close(self) -> None:
        """Nothing is written any more. No other thread may write now."""
        number, self._number, self._descriptor = self._number, None, None
        if number is not None:
            os.close(number)

    def _cannot(self, why: str) -> bool:
        if self.ready:
            logger.error("an audit record cannot be written: %s", why)
        self.ready = False
        return not self._required


def known(workload: Workload, rule: Rule | None = None, asked: Asked | None = None) -> dict[str, Any]:
    """
    What a record says of a request beside who, when and with what outcome.

    What is attested stands under `pod`; what is only said, cut short, under `claimed`, `labels` and `run_as`.
    """
    found: dict[str, Any] = {}
    if rule and asked:
        give = rule.give
        found |= {"rule": rule.name, "upstream": give.upstream, "audience": give.audience}
        found |= {"principal": give.principal, "scopes": scopes(rule, asked)}
    if asked:
        shown = asked.subject_token
        claims: dict[str, Any] = {"execution": asked.execution, "task": asked.task, "subject": asked.subject}
        found["claimed"] = {name: value[:CLAIM] for name, value in claims.items() if value} or None
        if rule is None:
            wanted = {"audience": asked.audience, "resource": asked.resource, "scope": " ".join(asked.scopes)}
            found["asked"] = {name: value[:CLAIM] for name, value in wanted.items() if value} or None
        found["subject_token"] = hashed(shown.token.reveal()) if shown else None
    if workload.pod:
        found["pod"] = workload.pod.described()
        found["labels"] = {
            name: value[:CLAIM] for name, value in list(workload.pod.labels.items())[:MAX_LABELS]
        } or None
        found["run_as"] = {name: value[:CLAIM] for name, value in workload.pod.identity.items()} or None
    return {name: value for name, value in found.items() if value is not None}


def compact(content: dict[str, Any]) -> str:
    """JSON on one line: whatever callers put into it, it has no line break."""
    return json.dumps(content, separators=(",", ":"))


def moment(now: float) -> str:
    """A time in ISO 8601, in UTC, to the millisecond: `2026-12-01T03:18:00.123Z`."""
    return datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def hashed(token: str) -> str:
    """What stands for a token in the file: enough to recognise one, too little to use it."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def _opened(path: Path) -> int:
    """Raises `ConfigError` where the file cannot be written, or others could have put it there."""
    try:
        if path == STDOUT:
            return os.dup(1)  # opening it anew needs rights to what is behind it, which it may not have
        trust.check_parents(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise ConfigError(f"audit: the directory of {path} is not there", hint="make that directory") from None
    except OSError as failed:
        raise ConfigError(f"audit: {path} cannot be written: {failed.strerror}") from None
    owner = os.fstat(descriptor).st_uid
    if owner not in (0, os.geteuid()):  # in a directory such as /tmp somebody else may have been first
        os.close(descriptor)
        raise ConfigError(f"audit: {path} belongs to uid {owner}, who is neither root nor us", hint="name another file")
    return descriptor
