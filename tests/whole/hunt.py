"""Looking for secrets in bytes, in every spelling in which they travel."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus


def spellings(secret: str) -> dict[str, set[bytes]]:
    """
    How `secret` may look: itself, in base64 (wherever in a longer text it begins), in a URL, in JSON, in HTML.
    """
    raw = secret.encode()
    return {
        "raw": {raw},
        "base64": _base64(raw),
        "url": {quote(secret).encode(), quote(secret, safe="").encode(), quote_plus(secret).encode()},
        "json": {json.dumps(text)[1:-1].encode() for text in (secret,)}
        | {json.dumps(secret, ensure_ascii=False)[1:-1].encode()},
        "html": {html.escape(secret).encode(), html.escape(secret, quote=False).encode()},
    }


def _base64(raw: bytes) -> set[bytes]:
    """What is left of `raw` in base64 when 0, 1 or 2 bytes come before it and anything comes after."""
    found = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        whole = encoded[(0, 2, 3)[before] : len(encoded) - (0, 3, 2)[(before + len(raw)) % 3] or None]
        found |= {whole, whole.replace(b"+", b"-").replace(b"/", b"_")}
    return found


class Hunt:
    """The secrets that must not be anywhere."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._spellings = [spellings(secret) for secret in secrets]

    def found(self, where: bytes) -> set[str]:
        """In which spellings any of them is in `where`; empty is good."""
        return {
            name for secret in self._spellings for name, texts in secret.items() if any(text in where for text in texts)
        }
