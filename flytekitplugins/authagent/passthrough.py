"""Headers that the code sets itself, for the calls of this thread or coroutine only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flytekitplugins.authagent.credential import MAX_TOKEN, Secret
from flytekitplugins.authagent.errors import ConfigError, NoCredential

Headers = tuple[tuple[str, Secret], ...]

_headers: ContextVar[Headers] = ContextVar("authagent_passthrough", default=())

_KEY = re.compile(r"[a-z0-9_.\-]+")


@contextmanager
def auth_metadata(*pairs: tuple[str, str] | Iterable[tuple[str, str]]) -> Iterator[None]:
    """
    Send these headers with every call to Flyte that is made in the block by a remote of `provider="passthrough"`.

    `auth_metadata(("authorization", "Bearer ..."), ...)`, or one list of pairs. An inner block replaces an outer
    one. Raises `ConfigError` for what gRPC cannot send; the values are in no error.
    """
    token = _headers.set(_checked(pairs))
    try:
        yield
    finally:
        _headers.reset(token)


def current() -> Headers:
    """The headers of this thread or coroutine. Raises `NoCredential` where none are set."""
    found = _headers.get()
    if not found:
        raise NoCredential(
            "passthrough: no headers are set here",
            hint='call Flyte inside `with auth_metadata(("authorization", ...)):`',
        )
    return found


def _checked(pairs: tuple[object, ...]) -> Headers:
    if len(pairs) == 1 and isinstance(pairs[0], list):
        pairs = tuple(pairs[0])
    found = []
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(half, str) for half in pair)):
            raise ConfigError("auth_metadata(...) takes pairs of a header's name and its value, both text")
        name, value = pair[0].lower(), pair[1]
        if not _KEY.fullmatch(name) or name.startswith("grpc-") or name.endswith("-bin"):
            raise ConfigError("auth_metadata(...): a header's name has letters, digits, '-', '_' and '.' only")
        if not value or len(value) > MAX_TOKEN or not (value.isascii() and value.isprintable()):
            raise ConfigError(f"auth_metadata(...): the value of {name} cannot be sent as a header")
        found.append((name, Secret(value)))
    if not found:
        raise ConfigError("auth_metadata() without a header", hint='auth_metadata(("authorization", "Bearer ..."))')
    return tuple(found)
