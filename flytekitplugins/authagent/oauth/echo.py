"""
Whether an answer repeats what was sent where people see it: scopes, names, codes, addresses.

Refusals show nothing of a peer's text. Of an answer that succeeds some parts must be shown, and are looked at here.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote, unquote_plus

from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.oauth.message import Request

PUBLIC = frozenset(
    {
        "Accept",
        "actor_token_type",
        "audience",
        "client_assertion_type",
        "client_id",
        "execution",
        "expires_in",
        "grant_type",
        "id",
        "launch",
        "min_lifetime",
        "redirect_uri",
        "requested_subject",
        "requested_token_type",
        "requested_token_use",
        "resource",
        "scope",
        "subject_token_type",
        "task",
        "token_type_hint",
    }
)
"""Fields and headers that hold no secret; every other one may."""

PIECE = 12
"""Characters of a secret, letters and digits, that count as a repetition. A shorter secret counts as a whole."""

SHORTEST = 6
"""Characters of a secret that is looked for at all: what is shorter stands in ordinary words."""

_ENCODED = re.compile(r"[A-Za-z0-9+/_\-]{8,}")
_OTHER = re.compile(r"[^a-z0-9]+")


def check(shown: Iterable[object], sent: Request, where: str) -> None:
    """
    Refuse an answer of `where` whose `shown` parts (texts, or lists and objects of texts) repeat a secret of `sent`.

    Raises `ProviderError`.
    """
    pieces = _pieces(sent, sent.url)
    if pieces and any(piece in found for text in _texts(shown) for found in _readings(text) for piece in pieces):
        raise ProviderError(
            f"{where} repeats in its answer a secret that was sent to it, so the answer is not used",
            hint="change that secret, and tell whoever runs the server",
        )


def check_address(sent: Request) -> None:
    """
    Refuse to send a secret to an address that holds it, for errors name addresses: a document may have named that one.

    Raises `ProviderError`.
    """
    pieces = {piece for piece in _pieces(sent, "") if len(piece) == PIECE}  # a short one may be in a host's name
    if any(piece in found for found in _readings(sent.url) for piece in pieces):
        raise ProviderError(
            "an address of the identity provider holds a secret that would be sent there",
            hint="look at the issuer's discovery document",
        )


def _pieces(sent: Request, address: str) -> set[str]:
    """What to look for: every stretch of a secret that does not stand in something public as well."""
    public = " ".join([_plain(address), *(_plain(value) for name, value in _fields(sent) if name in PUBLIC)])
    found: set[str] = set()
    for name, value in _fields(sent):
        for secret in _secrets(value) if name not in PUBLIC else ():
            plain = _plain(secret)
            length = min(PIECE, len(plain))
            if length >= SHORTEST:
                found |= {plain[i : i + length] for i in range(len(plain) - length + 1)}
    return {piece for piece in found if piece not in public}


def _fields(sent: Request) -> Iterator[tuple[str, str]]:
    yield from sent.form
    yield from sent.headers


def _secrets(value: str) -> Iterator[str]:
    """A value; of an Authorization header the credentials, and what a Basic pair holds behind its colon."""
    scheme, _, credentials = value.partition(" ")
    if scheme not in ("Basic", "Bearer"):
        yield value
        return
    yield credentials
    if scheme == "Basic":
        try:
            yield unquote_plus(base64.b64decode(credentials).decode().partition(":")[2])
        except ValueError:
            return


def _texts(value: object) -> Iterator[str]:
    """All texts in a value of JSON; those of a list or an object also joined, for one may be split over them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts([*value.keys(), *value.values()])
    elif isinstance(value, Iterable):
        inner = [text for each in value for text in _texts(each)]
        yield from inner
        yield "".join(inner)


def _readings(text: str) -> Iterator[str]:
    """`text` as it stands, without its percent signs and entities, backwards, and what its base64 and base16 say."""
    for plain in {text, unquote(text), html.unescape(text)}:
        yield _plain(plain)
        yield _plain(plain)[::-1]
        for part in _ENCODED.findall(plain):
            for begin in range(4):
                yield _plain(_decoded(part[begin:]))
            if re.fullmatch(r"([0-9A-Fa-f]{2})+", part):
                yield _plain(binascii.unhexlify(part).decode("latin-1"))


def _decoded(part: str) -> str:
    whole = part[: len(part) // 4 * 4].replace("-", "+").replace("_", "/")
    return base64.b64decode(whole).decode("latin-1")


def _plain(text: str) -> str:
    return _OTHER.sub("", text.lower())
