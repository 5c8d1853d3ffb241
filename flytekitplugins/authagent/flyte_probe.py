"""
What stands where a Flyte should be: what was seen when an RPC to it failed, and the one likely cause.

gRPC says little about a server that speaks no gRPC, so such a server is asked once more, by hand and without a token.
Nothing that it says is quoted, but its status and the type of its content.
"""

from __future__ import annotations

import re
import ssl
import time
from dataclasses import dataclass

from flytekitplugins.authagent import flyte_kind
from flytekitplugins.authagent.deadline import connected
from flytekitplugins.authagent.endpoint import Endpoint
from flytekitplugins.authagent.errors import NameNotResolved, ProviderError, ProviderUnavailable

MOST_SECONDS = 3.0
"""For all questions by hand."""

_MAX_HEAD = 16384
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_TYPE = re.compile(rb"(?i)\r\ncontent-type:[ \t]*([a-z0-9.+-]{1,40}/[a-z0-9.+-]{1,60})")
_LOCATION = re.compile(rb"(?i)\r\nlocation:[ \t]*(https?)://([a-z0-9.-]{1,253})(?=[:/?#\r])")
_AUTH_METADATA = "/flyteidl.service.AuthMetadataService/GetPublicClientConfig"
_AUTH_METADATA_2 = "/flyteidl2.auth.AuthMetadataService/GetPublicClientConfig"


@dataclass(frozen=True)
class Failure:
    """
    An RPC that failed: `code` and `details` are gRPC's. `question` is what Flyte did not say.

    `insecure`: it was asked over plaintext. `shown`: with a token. `proxied`: through a proxy of the environment.
    """

    endpoint: Endpoint
    code: str
    details: str
    question: str = "how to authenticate"
    insecure: bool = False
    shown: bool = False
    proxied: str = ""


@dataclass(frozen=True)
class _HttpAnswer:
    """To a request of HTTP/1.1. `location`: scheme and host that it redirects to."""

    status: int
    content_type: str = ""
    location: str = ""


def explained(failure: Failure) -> ProviderError:
    """The error that says what was seen, and the one likely cause as its hint."""
    for pattern, seen, hint, lasting in _BY_WORDS:
        if re.search(pattern, f"{failure.code} {failure.details}"):
            return _failed(failure, seen, hint, lasting=lasting)
    if re.search(_NO_NAME, failure.details):
        return NameNotResolved(
            f"the name {failure.endpoint.host} cannot be resolved on this machine",
            hint="check the endpoint's spelling, and the DNS of this machine",
        )
    if re.search(_NO_TRUST, failure.details):
        return _certificate(failure)
    return _seen_by_hand(failure, time.monotonic() + MOST_SECONDS) or _plainly(failure)


_BY_WORDS = (
    (
        "Connection refused",
        "the connection was refused, so nothing listens there",
        "check the port, and that Flyte is up",
        False,
    ),
    (
        "^DEADLINE_EXCEEDED",
        "nothing was answered in time",
        "check the port: a firewall, or a server of another kind, says nothing",
        False,
    ),
    (
        "WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNEXPECTED_RECORD",
        "it does not speak TLS",
        "set `insecure: true` if that Flyte speaks plaintext; else check the port",
        True,
    ),
)
"""gRPC's words for a failure: what was seen, the likely cause, and whether it lasts."""

_NO_NAME = "errors resolving|DNS resolution failed|lookup failed|[Nn]ame or service not known"
_NO_TRUST = "CERTIFICATE_VERIFY_FAILED|Hostname Verification Check failed"


def _seen_by_hand(failure: Failure, deadline: float) -> ProviderError | None:
    """What a server says that speaks no gRPC; `None` where it cannot be asked, or says nothing either."""
    status = flyte_kind.http_status(failure.details)
    if failure.endpoint.target.startswith("unix:") or failure.proxied:
        return _page(failure, _HttpAnswer(status)) if status else None
    answer = _asked(failure, deadline)
    if answer and not status and _is_flyte_2_over_http(failure, deadline):
        return flyte_2(failure.endpoint)
    if status and (answer is None or answer.status != status):
        answer = _HttpAnswer(status)
    if answer:
        return _page(failure, answer)
    if failure.insecure and _speaks_tls(failure.endpoint, deadline):
        return _failed(failure, "it speaks TLS", "set `insecure: false`", lasting=True)
    return None


def flyte_2(endpoint: Endpoint) -> ProviderError:
    """The error for a Flyte of the next generation."""
    return ProviderError(f"what answers at {endpoint.target} {flyte_kind.FLYTE_2}", hint=flyte_kind.FLYTE_2_HINT)


def _plainly(failure: Failure) -> ProviderError:
    """What gRPC's code alone says."""
    if "ALPN" in failure.details:
        hint = "gRPC needs HTTP/2: let what stands before Flyte allow it"
        return _failed(failure, "it speaks TLS, and not HTTP/2", hint, lasting=True)
    dropped = re.search("Socket closed|Stream removed|reset by peer|GOAWAY|Connection aborted|EOF", failure.details)
    if failure.code == "UNAVAILABLE" and failure.proxied:
        return _failed(failure, "it was not reached", f"check the proxy that {failure.proxied} names")
    if dropped:
        return _failed(
            failure,
            "the connection was closed before an answer",
            "check the port; what stands before Flyte must allow gRPC (HTTP/2)",
        )
    if failure.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return _failed(failure, "the call was refused", _OWN_LOGIN, lasting=True)
    return _failed(
        failure,
        "no answer of a Flyte came",
        "check the endpoint, and whether Flyte is up",
        lasting=failure.code not in ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "RESOURCE_EXHAUSTED"),
    )


def _failed(failure: Failure, seen: str, hint: str, *, lasting: bool = False) -> ProviderError:
    way = ("plaintext" if failure.insecure else "TLS") + ("" if failure.shown else ", without a token")
    message = (
        f"Flyte at {failure.endpoint.target} does not say {failure.question}: {failure.code} (asked over {way}: {seen})"
    )
    return (ProviderError if lasting else ProviderUnavailable)(message, hint=hint)


def _certificate(failure: Failure) -> ProviderError:
    where = f"Flyte at {failure.endpoint.target}"
    if "expired" in failure.details:
        return ProviderError(
            f"{where} shows a certificate that is not trusted: it has expired",
            hint="renew the certificate of what serves that endpoint; check this machine's clock",
        )
    if "Hostname" in failure.details:
        return ProviderError(
            f"{where} shows a certificate that is not trusted: it is not for the name {failure.endpoint.host}",
            hint="let the endpoint be a name that the certificate is for",
        )
    return ProviderError(
        f"{where} shows a certificate that is not trusted: no CA that is known here issued it",
        hint="set caCertFilePath to the CA that issued it; where a proxy intercepts TLS, that is the proxy's",
    )


def _page(failure: Failure, answer: _HttpAnswer) -> ProviderError:
    """Something that speaks HTTP, and no gRPC, has answered."""
    kind = f" ({answer.content_type})" if answer.content_type else ""
    seen = f"the answer was HTTP {answer.status}{kind}, not gRPC"
    if answer.content_type.startswith("application/grpc-web"):
        return _failed(failure, seen, "name an endpoint that speaks gRPC, and not gRPC-Web", lasting=True)
    if answer.location:
        seen += f", with a redirect to {answer.location}"
        if failure.insecure and answer.location == f"https://{failure.endpoint.host}":
            return _failed(failure, seen, "set `insecure: false`", lasting=True)
    hint, lasting = _HINTS.get(answer.status) or _HINTS.get(answer.status // 100 * 100) or _HINTS[400]
    return _failed(failure, seen, hint, lasting=lasting)


_OWN_LOGIN = "what stands before Flyte wants a login of its own: let gRPC pass without it, or set proxyCommand"
_HINTS = {
    200: ("a web server answers there: name the endpoint of Flyte's gRPC, not that of its console", True),
    300: (_OWN_LOGIN, True),
    401: (_OWN_LOGIN, True),
    403: ("what stands before Flyte does not let this machine, or gRPC, pass: ask its operator", True),
    407: ("a proxy on the way wants a login of its own", True),
    400: ("check the host of the endpoint: what answers there has no way to Flyte's gRPC", True),
    429: ("try again later: what stands before Flyte has too many requests", False),
    500: ("what stands before Flyte does not reach it: check that flyteadmin is up", False),
}
"""By status, or its hundred: the likely cause, and whether it lasts."""


def _asked(failure: Failure, deadline: float, path: str = _AUTH_METADATA) -> _HttpAnswer | None:
    """
    The answer of a server of HTTP/1.1 to an RPC without a token, `None` where it is no such server.

    Nothing is sent that is secret, and nothing of the answer is believed, so certificates are not checked.
    """
    endpoint = failure.endpoint
    kind = "application/grpc" if path == _AUTH_METADATA else "application/json"
    body = b"\0\0\0\0\0" if path == _AUTH_METADATA else b"{}"
    request = (
        f"POST {path} HTTP/1.1\r\nHost: {endpoint.host}\r\nContent-Type: {kind}\r\nTE: trailers\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
    head = b""
    try:
        with connected(endpoint.host, _port(failure), deadline) as plain:
            connection = plain if failure.insecure else _unverified("http/1.1").wrap_socket(plain)
            with connection:
                connection.sendall(request)
                while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD:
                    connection.settimeout(max(deadline - time.monotonic(), 0.001))
                    piece = connection.recv(4096)
                    if not piece:
                        break
                    head += piece
    except (OSError, ValueError):
        pass  # what was heard until then may be enough
    status = _STATUS.match(head)
    if not status:
        return None
    content_type, location = _TYPE.search(head), _LOCATION.search(head)
    return _HttpAnswer(
        int(status[1]),
        content_type[1].decode().lower() if content_type else "",
        b"://".join(location.groups()).decode().lower() if location else "",
    )


def _is_flyte_2_over_http(failure: Failure, deadline: float) -> bool:
    """Flyte 2 speaks Connect, too, which HTTP/1.1 can carry: JSON where others have a page."""
    answer = _asked(failure, deadline, _AUTH_METADATA_2)
    return answer is not None and answer.status != 404 and answer.content_type == "application/json"


def _speaks_tls(endpoint: Endpoint, deadline: float) -> bool:
    try:
        with connected(endpoint.host, endpoint.port or 443, deadline) as plain, _unverified("h2").wrap_socket(plain):
            return True
    except (OSError, ValueError):
        return False


def _unverified(protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def _port(failure: Failure) -> int:
    return failure.endpoint.port or (80 if failure.insecure else 443)
