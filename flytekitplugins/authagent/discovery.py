"""
What a Flyte says about how to authenticate at it: its two anonymous RPCs, each asked once.

Nothing here needs a credential, and nothing of flytekit is imported: the command line asks too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flytekitplugins.authagent import (
    ca_bundle,
    endpoint,
    flyte_kind,
    flyte_probe,
    http_proxy,
    program,
    rejection,
    trust,
)
from flytekitplugins.authagent.credential import Secret, token
from flytekitplugins.authagent.endpoint import Endpoint
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable, Rejected
from flytekitplugins.authagent.flyte_probe import Failure
from flytekitplugins.authagent.oauth import echo
from flytekitplugins.authagent.oauth.discovery import Metadata, from_document
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.oauth.userinfo import Person, person

TIMEOUT = 10.0
"""Seconds for one RPC. A flyteadmin whose identity provider is down answers after about five."""

MAX_CA_FILE = 1 << 20

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class FlyteServer:
    """
    A Flyte, and how to reach it. `skip_verify` takes whatever certificate it shows.

    `proxy_command` prints what a proxy before it wants to see; `proxy_command_source` is what configures it. `timeout`:
    seconds for one RPC. `plaintext`: to whom, but loopback, the operator lets tokens go unencrypted.
    """

    endpoint: Endpoint
    insecure: bool = False
    ca_file: Path | None = None
    skip_verify: bool = False
    proxy_command: tuple[str, ...] = field(default=(), repr=False)
    proxy_command_source: str = ""
    timeout: float = TIMEOUT
    plaintext: tuple[Endpoint, ...] = ()

    @property
    def spelled(self) -> str:
        """Its address, which says by its scheme where it speaks plaintext."""
        target = self.endpoint.target
        return f"http://{target}" if self.insecure and not target.startswith("unix:") else target

    def check_believable(self) -> None:
        """
        Refuse to take the word of somebody on the way for where secrets are to be sent: without TLS it may be theirs.

        Raises `ConfigError`.
        """
        to = self.endpoint
        if self.insecure and not endpoint.may_be_plaintext(to, self.plaintext):
            raise ConfigError(
                f"Flyte at {to.target} would be asked in plaintext where secrets are to be sent",
                hint=f"use TLS (insecure: false), set issuer, or set AUTHAGENT_ALLOW_PLAINTEXT={to.host}",
            )

    def proxy_authorization(self) -> Secret | None:
        """The token for the proxy, if there is one. Raises as `program.output`."""
        if not self.proxy_command:
            return None
        printed = program.output(self.proxy_command, timeout=30.0, source=self.proxy_command_source)
        return token(printed, of=f"the output of {self.proxy_command[0]}")

    def channel(self, deadline: float | None = None) -> Any:
        """A gRPC channel, before `deadline`; the caller closes it. Raises `ConfigError`, `ProviderUnavailable`."""
        import grpc

        target = self.endpoint.target
        http_proxy.check_for_grpc(target, os.environ)
        if self.insecure:
            return grpc.insecure_channel(target)
        if self.skip_verify:
            certificate, name = _shown_by(self.endpoint, deadline or time.monotonic() + self.timeout)
            options = [("grpc.ssl_target_name_override", name)]
            return grpc.secure_channel(target, grpc.ssl_channel_credentials(certificate), options)
        if self.ca_file is None:
            ca_bundle.check_for_grpc(os.environ)
            return grpc.secure_channel(target, grpc.ssl_channel_credentials())
        ca_bundle.check_file(self.ca_file)
        roots = trust.read(self.ca_file, secret=False, limit=MAX_CA_FILE)
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(roots))

    def call(
        self, method: str, request: Any, stub: Callable[[Any], Any], *, header: tuple[str, Secret] | None = None
    ) -> Any:
        """
        The answer of one RPC, anonymous without a `header`; `None` where the server does not have the RPC, for it has
        no authentication.

        Raises `ProviderUnavailable` where there is no answer in time, `ProviderError` where something else than a
        Flyte answers, `Rejected` where it does not take the header.
        """
        import grpc

        shown = self.proxy_authorization()
        metadata = [("proxy-authorization", f"Bearer {shown.reveal()}")] if shown else []
        if header:
            metadata.append((header[0], f"Bearer {header[1].reveal()}"))
        deadline = time.monotonic() + self.timeout
        target, channel = self.endpoint.target, self.channel(deadline)
        try:
            left = max(deadline - time.monotonic(), 0.001)
            return getattr(stub(channel), method)(request, timeout=left, metadata=metadata)
        except grpc.RpcError as error:
            failed = error
        finally:
            channel.close()
        # Out here, for the context of an error raised up there would have what Flyte said.
        code, details = failed.code(), failed.details() or ""
        asks_who = method == "UserInfo"  # with a token or without, to be refused is an answer
        refused = code == grpc.StatusCode.UNAUTHENTICATED
        unknown = code == grpc.StatusCode.UNIMPLEMENTED or (refused and not header and not asks_who)
        if unknown and kind(self) == "flyte 2":
            raise flyte_probe.flyte_2(self.endpoint)
        if code == grpc.StatusCode.UNIMPLEMENTED and flyte_kind.http_status(details) is None:
            return None
        if refused and header:
            words = rejection.reason(details)
            raise Rejected(f"Flyte at {target} takes no such token: {words}", hint=rejection.hint(words))
        if refused and asks_who:
            raise Rejected(f"Flyte at {target} takes no caller without a token", hint="show a token")
        question = "whom it takes the caller for" if asks_who else "how to authenticate"
        raise flyte_probe.explained(
            Failure(
                self.endpoint,
                code.name,
                details,
                question,
                insecure=self.insecure,
                shown=header is not None,
                proxied=http_proxy.check_for_grpc(target, os.environ) or "",
            )
        )


@dataclass(frozen=True)
class PublicClient:
    """What a Flyte tells clients that have no configuration of their own. Empty where it does not say."""

    client_id: str = ""
    redirect_uri: str = ""
    scopes: tuple[str, ...] = ()
    header: str = ""
    audience: str = ""


def public_client(server: FlyteServer, *, doubt_none: bool = False) -> PublicClient | None:
    """
    The public client of `server`; `None` where it has no authentication. Raises as `FlyteServer.call`.

    With `doubt_none` that it has none is asked again: it may have been switched on since.
    """
    return _once(server, "client", _ask_for_client, doubt_none=doubt_none)


def metadata(server: FlyteServer) -> Metadata | None:
    """The authorization server that `server` trusts; `None` where it has none. Raises as `FlyteServer.call`."""
    return _once(server, "metadata", _ask_for_metadata, doubt_none=True)


def user_info(server: FlyteServer, header: str, token: Secret | None) -> Person | None:
    """
    Whom `server` takes the bearer of `token` for (IdentityService); `None` where it has no authentication.

    Without a `token`, whom it takes an anonymous caller for.

    An empty answer means that it takes them for nobody. Raises as `FlyteServer.call`.
    """
    from flyteidl.service.identity_pb2 import UserInfoRequest
    from flyteidl.service.identity_pb2_grpc import IdentityServiceStub

    answer = server.call("UserInfo", UserInfoRequest(), IdentityServiceStub, header=(header, token) if token else None)
    if answer is None:
        return None
    found = person({"sub": answer.subject, "name": answer.name, "email": answer.email})
    if token:
        sent = Request("", headers=(("Authorization", f"Bearer {token.reveal()}"),))
        echo.check([found.subject, found.name, found.email], sent, f"Flyte at {server.endpoint.target}")
    return found


def kind(server: FlyteServer) -> flyte_kind.Kind | None:
    """Which kind of gRPC server `server` is; `None` where it does not say. Raises as `FlyteServer.channel`."""
    return _once(server, "kind", _ask_for_kind, doubt_none=True)


def check_flyte(server: FlyteServer) -> None:
    """Refuse a server of another kind, which answers as a Flyte without authentication. Raises `ProviderError`."""
    if kind(server) == "other":
        raise ProviderError(
            f"what answers at {server.endpoint.target} {flyte_kind.NO_FLYTE}", hint=flyte_kind.NO_FLYTE_HINT
        )


def _ask_for_kind(server: FlyteServer) -> flyte_kind.Kind | None:
    deadline = time.monotonic() + server.timeout
    channel = server.channel(deadline)
    try:
        return flyte_kind.of_server(channel, deadline)
    finally:
        channel.close()


def _ask_for_client(server: FlyteServer) -> PublicClient | None:
    from flyteidl.service.auth_pb2 import PublicClientAuthConfigRequest
    from flyteidl.service.auth_pb2_grpc import AuthMetadataServiceStub

    answer = server.call("GetPublicClientConfig", PublicClientAuthConfigRequest(), AuthMetadataServiceStub)
    if answer is None:
        return None
    return PublicClient(
        answer.client_id,
        answer.redirect_uri,
        tuple(answer.scopes),
        answer.authorization_metadata_key.lower(),
        answer.audience,
    )


def _ask_for_metadata(server: FlyteServer) -> Metadata | None:
    from flyteidl.service.auth_pb2 import OAuth2MetadataRequest
    from flyteidl.service.auth_pb2_grpc import AuthMetadataServiceStub

    answer = server.call("GetOAuth2Metadata", OAuth2MetadataRequest(), AuthMetadataServiceStub)
    if answer is None:
        return None
    found = from_document({f.name: _plain(getattr(answer, f.name)) for f in answer.DESCRIPTOR.fields})
    if not found.token_endpoint:
        raise ProviderError(
            f"Flyte at {server.endpoint.target} names no token endpoint", hint="set issuer or token_endpoint yourself"
        )
    return found


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else list(value) if hasattr(value, "__iter__") else value


def _shown_by(endpoint: Endpoint, deadline: float) -> tuple[bytes, str]:
    """The certificate that a server shows, to be trusted for this once, and a name that it is for."""
    import ssl

    from flytekitplugins.authagent.deadline import connected

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            connected(endpoint.host, endpoint.port or 443, deadline) as connection,
            context.wrap_socket(connection, server_hostname=endpoint.host) as secured,
        ):
            shown = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError):
        raise ProviderUnavailable(f"Flyte at {endpoint.target} shows no certificate") from None
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(shown.encode())
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        found = [str(a.value) for a in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return shown.encode(), (found or [endpoint.host])[0].replace("*", "any", 1)


_known: dict[tuple[FlyteServer, str], Any] = {}
_locks: dict[tuple[FlyteServer, str], threading.Lock] = {}
_lock = threading.Lock()


def _once(server: FlyteServer, what: str, ask: Callable[[FlyteServer], Answer], *, doubt_none: bool = False) -> Answer:
    """The answer, asked for by one thread and kept for the process; a failure is not kept."""
    key = (server, what)
    with _lock:
        own = _locks.setdefault(key, threading.Lock())
    with own:
        if key not in _known or (doubt_none and _known[key] is None):
            _known[key] = ask(server)
        answer: Answer = _known[key]
        return answer


def forget() -> None:
    """Ask anew."""
    _known.clear()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a lock that another thread of the parent held would never open
    _lock = threading.Lock()
    _locks.clear()


os.register_at_fork(after_in_child=_after_fork)
