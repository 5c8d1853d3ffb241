"""What every call passes before its method runs: authentication, and the translation of our errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import grpc

from flytekitplugins.authagent.sandbox.control_plane.authentication import Authentication
from flytekitplugins.authagent.sandbox.control_plane.caller import answering
from flytekitplugins.authagent.sandbox.refusal import Refusal

logger = logging.getLogger(__name__)


class Interceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Authenticates unary calls. As in flyteadmin, streams and methods that do not exist pass."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        handler = continuation(details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = details.method.rpartition("/")[2]

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                caller = self._authentication.caller(method, context.invocation_metadata())
                with answering(caller):
                    return handler.unary_unary(request, context)
            except Refusal as refusal:
                code, message = refusal.code, refusal.message
            except Exception:
                # Not UNKNOWN, which is what grpc would say: flytekit takes that for a rejected token.
                logger.exception("sandbox: %s failed", method)
                code, message = grpc.StatusCode.INTERNAL, f"the sandbox failed in {method}; its log says why"
            return context.abort(code, message)

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)
