"""flytekit's client with the headers of `auth_metadata(...)` on every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import PlatformConfig

from flytekitplugins.authagent import passthrough


class PassthroughClient(SynchronousFlyteClient):  # type: ignore[misc] # flytekit has no types
    """
    Sends what the calling thread or coroutine has set, and nothing of anybody else's.

    flytekit's authenticators have room for one header; here there may be several.
    """

    def __init__(self, platform: PlatformConfig) -> None:
        super().__init__(platform)
        outermost = grpc.intercept_channel(self._channel, _Headers())
        for name in ("_stub", "_signal", "_dataproxy_stub"):
            setattr(self, name, type(getattr(self, name))(outermost))


class _Details(NamedTuple):
    """A call, as grpc describes it to an interceptor."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None = None
    compression: Any = None


class _Headers(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):  # type: ignore[misc] # as above
    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(_with_headers(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(_with_headers(details), request)


def _with_headers(details: Any) -> _Details:
    """`details` with the headers of this thread or coroutine. Raises `NoCredential` where none are set."""
    own = tuple((name, value.reveal()) for name, value in passthrough.current())
    return _Details(
        details.method,
        details.timeout,
        (*(details.metadata or ()), *own),
        details.credentials,
        getattr(details, "wait_for_ready", None),
        getattr(details, "compression", None),
    )
