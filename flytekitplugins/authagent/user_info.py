"""What Flyte says of its caller: `IdentityService.UserInfo`, which flytekit has no client for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import grpc
from flyteidl.service.identity_pb2 import UserInfoRequest
from flyteidl.service.identity_pb2_grpc import IdentityServiceStub
from flytekit.clients.grpc_utils.wrap_exception_interceptor import RetryExceptionWrapperInterceptor
from flytekit.clients.raw import RawSynchronousFlyteClient

from flytekitplugins.authagent import failed_call, flyte_kind, rejection
from flytekitplugins.authagent.errors import AuthAgentError, ProviderError, ProviderUnavailable, Rejected

TIMEOUT = 5.0
"""Seconds for one call."""

_FOR_NOW = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)


@dataclass(frozen=True)
class UserInfo:
    """
    Whom Flyte takes its caller for; `None` is what it does not know.

    The answer also holds every claim of the caller's token; none of them is kept.
    """

    subject: str | None = None
    name: str | None = None
    email: str | None = None


def ask(client: RawSynchronousFlyteClient, *, timeout: float = TIMEOUT) -> UserInfo | None:
    """
    What Flyte says of whoever calls it through `client`, within `timeout` seconds.

    `None` where the server has no such service, which is one without authentication, or has nothing to say, as of
    a caller that it let in anonymously. Raises `Rejected`, `ProviderUnavailable` or `ProviderError`.
    """
    try:
        answer = IdentityServiceStub(unrepeated(client)).UserInfo(UserInfoRequest(), timeout=timeout)
    except grpc.RpcError as error:
        failed = error
    else:
        return _of(answer)
    if failed.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED):
        kind = flyte_kind.of_server(unrepeated(client), time.monotonic() + timeout)
        if kind == "flyte 2":
            raise ProviderError(f"what answers at {client.url} {flyte_kind.FLYTE_2}", hint=flyte_kind.FLYTE_2_HINT)
    if failed.code() == grpc.StatusCode.UNIMPLEMENTED:
        return None
    raise failure(failed, client.url, "who its caller is")  # out here: its context would have what Flyte said


def _of(answer: Any) -> UserInfo | None:
    found = UserInfo(answer.subject or None, full_name(answer), answer.email or None)
    return None if found == UserInfo() else found


def full_name(person: Any) -> str | None:
    """The name of a person, from the fields that OpenID Connect Core 1.0 section 5.1 has for it."""
    parts = [person.given_name, person.family_name]
    return person.name or " ".join(part for part in parts if part) or None


def unrepeated(client: RawSynchronousFlyteClient) -> grpc.Channel:
    """
    The channel of `client`, authenticated, without the retries that flytekit puts around it.

    It sends whatever fails four times, "there is no such service" included, and hides the status code.
    """
    channel = client._channel
    if isinstance(getattr(channel, "_interceptor", None), RetryExceptionWrapperInterceptor):
        return channel._channel
    return channel


def failure(failed: grpc.RpcError, endpoint: str, what: str) -> AuthAgentError:
    """A call that failed, as our error: Flyte at `endpoint` does not say `what`."""
    if failed_call.is_one(failed):
        words = failed_call.reason(failed)
        return Rejected(f"Flyte at {endpoint} rejected the credential: {words}", hint=rejection.hint(words))
    kind = ProviderUnavailable if failed.code() in _FOR_NOW else ProviderError
    return kind(f"Flyte at {endpoint} does not say {what}: {failed.code().name}")
