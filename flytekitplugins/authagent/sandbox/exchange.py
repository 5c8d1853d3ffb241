"""A request to one of the sandbox's HTTP servers, and its answer: data, and no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request. Headers, body and query may hold secrets, so none of them is in the repr."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """By lower-case names."""
    body: bytes = field(default=b"", repr=False)
    query: str = field(default="", repr=False)
    """As it was sent, without its question mark; it may hold secrets too."""
    left: Callable[[float], bool] = field(default=lambda seconds: False, repr=False, compare=False)
    """`left(seconds)` waits that long at most, and says whether the client went away or the server stops."""


@dataclass(frozen=True)
class Answer:
    """What to send back; the body may hold secrets."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(status: int, content: Any, *headers: tuple[str, str]) -> Answer:
    """`content` as JSON, which nobody may cache (RFC 6749 section 5.1 asks it of tokens; here it is for all)."""
    fixed = (("Content-Type", "application/json"), ("Cache-Control", "no-store"), ("Pragma", "no-cache"))
    own = {name.lower() for name, _ in headers}
    kept = tuple(header for header in fixed if header[0].lower() not in own)
    return Answer(status, json.dumps(content).encode(), (*kept, *headers))
