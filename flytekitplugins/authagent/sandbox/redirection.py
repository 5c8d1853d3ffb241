"""Where a browser may be sent with an answer (RFC 6749 section 3.1.2, RFC 8252 section 7.3)."""

from __future__ import annotations

import re

_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]|localhost)(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*)?")
"""An http URL on this machine, of visible ASCII."""


def allowed(registered: str, asked: str) -> bool:
    """
    Whether `asked` is `registered`, letter by letter.

    Of a loopback address only the path counts: a native application takes the port that is free.
    """
    if registered == asked:
        return True
    ours, theirs = _LOOPBACK.fullmatch(registered), _LOOPBACK.fullmatch(asked)
    return bool(ours and theirs and ours["path"] == theirs["path"] and 0 < int(theirs["port"] or 80) < 65536)


def origin(uri: str) -> str:
    """
    Where `uri` leads, as a Content-Security-Policy can say it: by its scheme alone if its host is an IPv6 address.
    """
    found = re.match(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:)(?://(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)(?=[/?]|$))?", uri)
    if not found:
        return ""
    return f"{found['scheme']}//{found['host']}" if found["host"] else found["scheme"]
