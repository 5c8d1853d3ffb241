"""The only door to an identity provider: one request, one bounded answer, in bounded time."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flytekitplugins.authagent import ca_bundle, endpoint, http_proxy
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import (
    AuthAgentError,
    ConfigError,
    NameNotResolved,
    ProviderError,
    ProviderUnavailable,
)
from flytekitplugins.authagent.oauth import echo
from flytekitplugins.authagent.oauth.message import Request, Response

MAX_BODY = 1 << 20
"""Bytes of an answer. A token response is a few KiB, a JWKS tens of them."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL calls an answer that is no TLS: text, such as that of a plain HTTP server."""

_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


@dataclass(frozen=True)
class Door:
    """
    How to reach identity providers.

    `timeout`: seconds for a whole exchange, from resolving the name to the last byte. `ca_file`: trusted instead of the
    usual roots. `verify`: without it, anybody is trusted. Proxies are `proxy`, or come from the environment, as
    everywhere; `~/.netrc` is never read. `proxy_authorization` gives what a proxy before the provider wants to see.
    """

    timeout: float = 10.0
    ca_file: Path | None = None
    verify: bool = True
    proxy: str | None = field(default=None, repr=False)
    proxy_authorization: Callable[[], Secret | None] | None = field(default=None, repr=False)

    def send(self, request: Request) -> Response:
        """
        Send `request` and read the answer, whatever its status; a redirect is an answer too.

        Raises `ConfigError` for a URL that is neither https nor loopback, and for a proxy or a CA file that cannot be
        used; `ProviderUnavailable` where there is no answer in time; `ProviderError` where TLS fails or the answer is
        no HTTP or too large.
        """
        echo.check_address(request)
        check_url(request.url)
        import requests

        from flytekitplugins.authagent.deadline import BrokenOff, DeadlineSession, TooLarge, TooSlow

        where = _origin(request.url)
        way = self._proxy(request.url)
        trusted = self._trusted(request.url)
        headers = dict(request.headers) | self._for_the_proxy()
        try:
            with DeadlineSession() as session:
                answer, body = session.exchange(
                    "POST" if request.form else "GET",
                    request.url,
                    deadline=time.monotonic() + self.timeout,
                    limit=MAX_BODY,
                    data=request.form or None,
                    headers=headers,
                    proxies={"http": way[0], "https": way[0]} if way else {},
                    verify=trusted,
                )
        except TooLarge:
            raise ProviderError(f"{where} answered with more than {MAX_BODY} bytes") from None
        except BrokenOff:
            raise ProviderUnavailable(f"{where} broke its answer off") from None
        except TooSlow:
            raise ProviderUnavailable(f"{where} took too long to answer: {self.timeout:g} s were over") from None
        except requests.exceptions.Timeout:
            raise ProviderUnavailable(f"{where} did not answer in {self.timeout:g} s") from None
        except requests.exceptions.RequestException as failed:
            raise _explained(request.url, failed, way[1] if way else "") from None
        said = {name.lower(): value for name, value in answer.headers.items()}
        return Response(request.url, answer.status_code, said, body)

    def check(self, url: str) -> None:
        """Raise the `ConfigError` that `send` would: for a proxy, or for CAs, that this machine cannot use."""
        self._proxy(url)
        self._trusted(url)

    def _for_the_proxy(self) -> dict[str, str]:
        shown = self.proxy_authorization() if self.proxy_authorization else None
        return {"Proxy-Authorization": f"Bearer {shown.reveal()}"} if shown else {}

    def _proxy(self, url: str) -> tuple[str, str] | None:
        """The proxy on the way, and what names it."""
        if not self.proxy:
            return http_proxy.from_environment(url)
        http_proxy.check(self.proxy, "httpProxyURL (proxy)")
        return self.proxy, "httpProxyURL (proxy)"

    def _trusted(self, url: str) -> str | bool:
        if not self.verify or not url.startswith("https:"):
            return self.verify
        if self.ca_file:
            ca_bundle.check_file(self.ca_file)
        found = self.ca_file or ca_bundle.from_environment(os.environ)
        return str(found) if found else True


def check_url(url: str) -> None:
    """Refuse a URL over which a secret could be read on the way, or that holds one. Raises `ConfigError`."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"the URL of {_origin(url)} holds credentials", hint="take them out of it")
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if endpoint.parse(host).loopback:
            return
    raise ConfigError(f"{url!r} is not an https URL", hint="plain http is accepted for loopback addresses only")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _explained(url: str, failed: BaseException, proxy: str) -> AuthAgentError:
    """Why there was no exchange: requests and urllib3 wrap the reason several times. `proxy` says what names one."""
    import http.client

    import requests
    from urllib3.exceptions import NameResolutionError

    where = _origin(url)
    reasons = list(_reasons(failed))
    if any(isinstance(reason, NameResolutionError) for reason in reasons):
        name = f"of the proxy that {proxy} names" if proxy else str(urlsplit(url).hostname)
        raise NameNotResolved(
            f"the name {name} cannot be resolved on this machine",
            hint="check its spelling, and the DNS of this machine",
        )
    tls = next((reason for reason in reasons if isinstance(reason, ssl.SSLError)), None)
    if tls or isinstance(failed, requests.exceptions.SSLError):
        return _without_tls(where, tls)
    if isinstance(failed, requests.exceptions.ProxyError):
        status = next(filter(None, (_TUNNEL.search(str(reason)) for reason in reasons)), None)
        said = f": the proxy answered {status[1]}" if status else ""
        return ProviderUnavailable(
            f"{where} cannot be reached through the proxy that {proxy} names{said}",
            hint="check that proxy, or name the host in NO_PROXY",
        )
    if any(isinstance(reason, ConnectionResetError | BrokenPipeError) for reason in reasons):
        return ProviderUnavailable(f"{where} broke its answer off")  # RemoteDisconnected is a reset connection, too
    if any(isinstance(reason, http.client.HTTPException) for reason in reasons):
        return ProviderError(f"{where} does not speak HTTP", hint="check the port, and whether the URL is an https one")
    if isinstance(failed, requests.exceptions.ConnectionError):
        refused = next((reason for reason in reasons if isinstance(reason, OSError) and reason.errno), None)
        why = f": {os.strerror(refused.errno)}" if refused and refused.errno else ""
        return ProviderUnavailable(f"{where} cannot be reached{why}", hint="is the identity provider up?")
    return ProviderError(f"{where}: {type(failed).__name__}")


def _reasons(failed: BaseException) -> Iterator[BaseException]:
    """`failed` and what it wraps, in `reason`, in its arguments or as its cause."""
    found: BaseException | None = failed
    for _ in range(8):
        if found is None:
            return
        yield found
        inner = (getattr(found, "reason", None), *found.args, found.__cause__)
        found = next((each for each in inner if isinstance(each, BaseException)), None)


def _without_tls(where: str, found: ssl.SSLError | None) -> AuthAgentError:
    """What it means that TLS failed, in OpenSSL's own words."""
    if found is None or isinstance(found, ssl.SSLCertVerificationError):
        return ProviderError(
            f"{where}: its certificate is not trusted",
            hint="set ca_file (caCertFilePath) to the CA that issued it; a company's proxy may have its own",
        )
    if isinstance(found, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ProviderUnavailable(f"{where} broke the TLS handshake off", hint="does it speak TLS at that port?")
    if found.reason in _NO_TLS:
        return ProviderError(f"{where} does not speak TLS", hint="check the port, and whether the URL is an http one")
    return ProviderError(f"{where}: TLS failed ({found.reason or 'no reason is known'})")
