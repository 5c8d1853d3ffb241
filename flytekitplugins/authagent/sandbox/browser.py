"""How a form that comes back is known to be the one that this browser was shown."""

from __future__ import annotations

import hmac
import re
import secrets
from http.cookies import CookieError, SimpleCookie

from flytekitplugins.authagent.sandbox.exchange import Call

COOKIE = "authagent-sandbox"
_VALUE = re.compile(r"[A-Za-z0-9_-]{43}")


class Browsers:
    """
    Binds a form to the cookie of the browser that asked for it, and to the page's own URL.

    Another site can make a browser send a form, but neither read what ours holds nor choose the cookie.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def invite(self, call: Call) -> tuple[str, tuple[tuple[str, str], ...]]:
        """What the form must bring back, and the headers that give the browser a cookie if it has none."""
        known = _cookie(call)
        cookie = known or secrets.token_urlsafe(32)
        fresh = f"{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Lax"
        return self._proof(cookie, call), () if known else (("Set-Cookie", fresh),)

    def invited(self, call: Call, proof: str) -> bool:
        """Whether a form with this `proof` comes from a page of ours, in the browser that it was made for."""
        origin, cookie = call.headers.get("origin"), _cookie(call)
        if origin is not None and origin != f"http://{call.headers.get('host', '')}":
            return False
        return cookie is not None and hmac.compare_digest(self._proof(cookie, call).encode(), proof.encode())

    def _proof(self, cookie: str, call: Call) -> str:
        shown = "\n".join((cookie, call.path, call.query))
        return hmac.new(self._key, shown.encode(), "sha256").hexdigest()


def _cookie(call: Call) -> str | None:
    try:
        found = SimpleCookie(call.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return found.value if found and _VALUE.fullmatch(found.value) else None
