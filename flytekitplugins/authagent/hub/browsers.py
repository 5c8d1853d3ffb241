"""How a form, or a sign-in, that comes back is known to belong to the browser that was shown its page."""

from __future__ import annotations

import hmac
import re
import secrets
from urllib.parse import urlsplit

from flytekitplugins.authagent.errors import ConfigError

HOST_COOKIE = "__Host-authagent"
"""No other host, and no page of plain HTTP, can set a cookie of such a name (RFC 6265bis section 4.1.3.2)."""

LOOPBACK_COOKIE = "authagent-hub"
"""For http on loopback, where browsers keep no `Secure` cookies of that name."""

PORTS = {"http": 80, "https": 443}

_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")

_NETLOC = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d*)?", re.ASCII)
"""Host and port. Whatever else may stand there, browsers and Python do not agree on."""


class Browsers:
    """
    Binds what a browser brings back to the cookie that it was given, and to what it was shown.

    Another site can make a browser send a form, or follow a link that ends a sign-in, but neither read what our pages
    hold nor choose the cookie. All hubs with the same `key` accept each other's pages; `origin` is that of the URL by
    which people call them, and `secure` says that it is https.
    """

    def __init__(self, key: bytes, *, secure: bool, origin: str) -> None:
        self._key, self._origin, self._secure = key, origin, secure
        self._name = HOST_COOKIE if secure else LOOPBACK_COOKIE

    def invite(self, cookie_header: str | None, what: str) -> tuple[str, str | None]:
        """What the form about `what` must bring back, and the `Set-Cookie` of a browser that has no cookie yet."""
        known = self._cookie(cookie_header)
        cookie = known or secrets.token_urlsafe(32)
        # Lax: the sign-in comes back from another site, by a link.
        fresh = f"{self._name}={cookie}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if self._secure else ''}"
        return self._digest("form", cookie, what), None if known else fresh

    def invited(
        self,
        cookie_header: str | None,
        origin_header: str | None,
        what: str,
        proof: str,
        *,
        fetch_site: str | None = None,
    ) -> bool:
        """
        Whether a form with this `proof` comes from our page about `what`, in the browser that it was made for.

        `origin_header` and `fetch_site` are its `Origin` and `Sec-Fetch-Site`, where it has them. An origin of `null`
        is anybody's, and a site of `same-site` another host's under the same domain.
        """
        if origin_header not in (None, self._origin) or fetch_site not in (None, "same-origin", "none"):
            return False
        return self._matches("form", cookie_header, what, proof)

    def binding(self, cookie_header: str | None, what: str) -> str | None:
        """What to keep with a sign-in that this browser is sent to about `what`; `None` if it has no cookie."""
        cookie = self._cookie(cookie_header)
        return None if cookie is None else self._digest("sign-in", cookie, what)

    def bound(self, cookie_header: str | None, what: str, binding: str) -> bool:
        """
        Whether the sign-in kept with `binding` comes back in the browser that was sent to it.

        Without this, whoever began a sign-in could have somebody else's browser finish it, with either's `state`
        (RFC 9700 section 4.7).
        """
        return self._matches("sign-in", cookie_header, what, binding)

    def _matches(self, use: str, cookie_header: str | None, what: str, shown: str) -> bool:
        cookie = self._cookie(cookie_header)
        if cookie is None:
            return False
        return hmac.compare_digest(self._digest(use, cookie, what).encode(), shown.encode(errors="replace"))

    def _digest(self, use: str, cookie: str, what: str) -> str:
        """`use` keeps what a page shows from being taken for what was kept, and the other way round."""
        return hmac.new(self._key, "\n".join((use, cookie, what)).encode(errors="replace"), "sha256").hexdigest()

    def _cookie(self, header: str | None) -> str | None:
        """Ours, among those of whoever else is on this host; two of ours are none, since one is somebody else's."""
        pairs = (part.strip().partition("=") for part in (header or "").split(";"))
        found = [value for name, _, value in pairs if name == self._name]
        return found[0] if len(found) == 1 and _VALUE.fullmatch(found[0]) else None


def origin(url: str) -> str:
    """
    The origin of `url` as browsers write it in `Origin`: small letters, and no port that goes without saying.

    Raises `ConfigError` for what is no http or https URL, or could not stand in a Content-Security-Policy.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in PORTS or not _NETLOC.fullmatch(parts.netloc) or not url.isprintable():
        raise ConfigError(f"{url!r} is not a URL that a browser can be sent to", hint="write https://HOST or more")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port in (None, PORTS[parts.scheme]) else f":{port}")
