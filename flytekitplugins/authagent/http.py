"""The only door to an identity provider: one request, one bounded answer, in bounded time."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flytekitplugins.authagent import endpoint
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth.message import Request, Response

MAX_BODY = 1 << 20
"""Bytes of an answer. A token response is a few KiB, a JWKS tens of them."""

if TYPE_CHECKING:
    import requests

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""What OpenSSL calls an answer that is no TLS: text, such as that of a plain HTTP server."""

_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True)
class Door:
    """
    How to reach identity providers: `timeout` in seconds for a whole exchange, from connecting to the last byte (the
    resolver of names alone has a time of its own), `ca_file` to trust instead of the usual roots, `verify` to trust
    anybody. Proxies are `proxy`, or come from the environment, as everywhere; `~/.netrc` is never read.
    `proxy_authorization` gives what a proxy before the provider wants to see.
    """

    timeout: float = 10.0
    ca_file: Path | None = None
    verify: bool = True
    proxy: str | None = field(default=None, repr=False)
    proxy_authorization: Callable[[], Secret | None] | None = field(default=None, repr=False)

    def send(self, request: Request) -> Response:
        """
        Send `request` and read the answer, whatever its status; a redirect is an answer too.

        Raises `ConfigError` for a URL that is neither https nor loopback, `ProviderUnavailable` where there is no
        answer in time, `ProviderError` where TLS fails or the answer is no HTTP or too large.
        """
        check_url(request.url)
        import http.client

        import requests
        import requests.utils
        import urllib3

        from flytekitplugins.authagent.deadline import DeadlineAdapter

        where = _origin(request.url)
        deadline = time.monotonic() + self.timeout
        with requests.Session() as session:
            session.trust_env = False  # or ~/.netrc would replace our Authorization header
            for scheme in ("http://", "https://"):
                session.mount(scheme, DeadlineAdapter(deadline))
            try:
                answer = session.request(
                    "POST" if request.form else "GET",
                    request.url,
                    data=request.form or None,
                    headers=dict(request.headers) | self._for_the_proxy(),
                    proxies=self._proxies(request.url),
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                    verify=self._trusted(),
                )
                body = _bounded(answer, request.url, deadline=deadline)
            except requests.exceptions.SSLError as failed:
                raise _without_tls(where, failed) from None
            except requests.exceptions.ProxyError:
                raise ProviderUnavailable(
                    f"{where} cannot be reached through the proxy",
                    hint="check httpProxyURL, or HTTPS_PROXY and NO_PROXY",
                ) from None
            except requests.exceptions.Timeout:
                raise ProviderUnavailable(f"{where} did not answer in {self.timeout:g} s") from None
            except requests.exceptions.ConnectionError:
                raise ProviderUnavailable(f"{where} cannot be reached", hint="is the identity provider up?") from None
            except requests.exceptions.RequestException as broken:
                raise ProviderError(f"{where}: {type(broken).__name__}") from None
            except urllib3.exceptions.ReadTimeoutError:
                raise ProviderUnavailable(f"{where} took too long to answer") from None
            except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
                raise ProviderUnavailable(f"{where} broke its answer off") from None
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Response(request.url, answer.status_code, headers, body)

    def _for_the_proxy(self) -> dict[str, str]:
        shown = self.proxy_authorization() if self.proxy_authorization else None
        return {"Proxy-Authorization": f"Bearer {shown.reveal()}"} if shown else {}

    def _proxies(self, url: str) -> dict[str, str]:
        import requests.utils

        if self.proxy:
            return {"http": self.proxy, "https": self.proxy}
        return dict(requests.utils.get_environ_proxies(url))

    def _trusted(self) -> str | bool:
        if not self.verify:
            return False
        return str(self.ca_file) if self.ca_file else _ca_from_environment()


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


def _without_tls(where: str, failed: BaseException) -> AuthAgentError:
    """What it means that TLS failed: OpenSSL's own words stand somewhere inside of what requests makes of them."""
    found: object = failed
    while isinstance(found, BaseException) and not isinstance(found, ssl.SSLError):
        found = getattr(found, "reason", None) or next((a for a in found.args if isinstance(a, BaseException)), None)
    if not isinstance(found, ssl.SSLError) or isinstance(found, ssl.SSLCertVerificationError):
        return ProviderError(
            f"{where}: its certificate is not trusted",
            hint="set ca_file (caCertFilePath) to the CA that issued it; a company's proxy may have its own",
        )
    if isinstance(found, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return ProviderUnavailable(f"{where} broke the TLS handshake off", hint="does it speak TLS at that port?")
    if found.reason in _NO_TLS:
        return ProviderError(f"{where} does not speak TLS", hint="check the port, and whether the URL is an http one")
    return ProviderError(f"{where}: TLS failed ({found.reason or 'no reason is known'})")


def _ca_from_environment() -> str | bool:
    return next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), True)


def _bounded(answer: requests.Response, url: str, *, deadline: float) -> bytes:
    body = bytearray()
    # What is there, not what fills a buffer: a body that drips would otherwise never come back to the deadline.
    while piece := answer.raw.read1(16384, decode_content=True):
        body += piece
        if len(body) > MAX_BODY:
            raise ProviderError(f"{_origin(url)} answered with more than {MAX_BODY} bytes")
        if time.monotonic() > deadline:
            raise ProviderUnavailable(f"{_origin(url)} took too long to answer")
    return bytes(body)
