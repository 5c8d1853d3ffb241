"""
The failed RPC on which flytekit calls us, and what came of the attempt before.

flytekit tells an authenticator that something failed, not what, and retries without telling it at all. Both stand
in the frames of its interceptors, and are read there: see docs/decisions/0003-reading-flytekits-frames.md.
"""

from __future__ import annotations

import re
import sys
from types import FrameType

import grpc
from flytekit.clients.grpc_utils.auth_interceptor import AuthUnaryInterceptor
from flytekit.clients.grpc_utils.wrap_exception_interceptor import RetryExceptionWrapperInterceptor

from flytekitplugins.authagent import rejection

_INTERCEPTS = {
    AuthUnaryInterceptor.intercept_unary_unary.__code__,
    AuthUnaryInterceptor.intercept_unary_stream.__code__,
}
_RETRIES = RetryExceptionWrapperInterceptor.intercept_unary_unary.__code__


def seen_by_caller() -> grpc.RpcError | None:
    """The failure on which flytekit's interceptor has just called us, if it can be found."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code not in _INTERCEPTS:
        frame = frame.f_back
    if frame is None:
        return None
    found = (frame.f_locals.get(name) for name in ("e", "c"))
    return next((error for error in found if isinstance(error, grpc.RpcError)), None)


def previous_attempt() -> BaseException | None:
    """How the attempt before this one ended, if flytekit is retrying a call; `None` for a new call."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not _RETRIES:
        frame = frame.f_back
    if frame is None or not frame.f_locals.get("retries"):
        return None
    ended: BaseException | None = frame.f_locals["fut"].exception()
    return ended


def is_one(error: BaseException | None) -> bool:
    """
    Whether `error` is about the credential.

    UNAUTHENTICATED is. UNKNOWN is flytekit's other trigger: it is only where an ingress answered 401 or 302 in
    the place of Flyte, and a bug in the server otherwise, which no token mends.
    """
    code = error.code() if isinstance(error, grpc.RpcError) and hasattr(error, "code") else None
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return True
    return code == grpc.StatusCode.UNKNOWN and bool(re.search(r"status: (401|302)\b", _details(error)))


def reason(error: BaseException | None) -> str:
    """Why Flyte rejected the credential, in our words."""
    return rejection.reason(_details(error))


def _details(error: BaseException | None) -> str:
    """The server's own words. They are never shown: they may repeat the token."""
    details = error.details() if isinstance(error, grpc.RpcError) and hasattr(error, "details") else None
    return details or ""
