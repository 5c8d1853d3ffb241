"""A credential: an access token, the moment it expires, the header it goes in, and what it is for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from flytekitplugins.authagent.errors import ProviderError

MAX_TOKEN = 32 * 1024
"""Characters. flytekit's channels carry 32 KiB of metadata; a longer token could not be sent."""

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")
_B64TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


class Secret:
    """Text that shows itself only when asked by name, and is never pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself. Do not store, log or format what comes back."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled; pass the name of its provider instead")


@dataclass(frozen=True)
class Credential:
    """
    What a provider hands out.

    `expires_at` is seconds since the epoch by the local clock. `lifetime` is the seconds from the moment at which the
    token was obtained to its own `exp`. `None` means that nobody knows. `header` is the gRPC metadata key that the
    server wants, `None` where the source cannot know.
    `endpoint` is the Flyte that the source names for it; a token goes nowhere else. `scopes` are those granted.
    `id_token` is what an OpenID Connect provider said beside it about whom it speaks for; it is sent nowhere.
    """

    token: Secret
    expires_at: float | None = None
    lifetime: float | None = None
    header: str | None = None
    endpoint: str | None = None
    scopes: tuple[str, ...] = ()
    id_token: Secret | None = None
    provider: str = field(default="", compare=False)

    @property
    def is_anonymous(self) -> bool:
        """Whether there is no token, because nobody wants one."""
        return not self.token.reveal()

    def remaining(self, now: float) -> float:
        """Seconds this credential is still good for at `now`; infinite where the source does not know."""
        return float("inf") if self.expires_at is None else self.expires_at - now


def token(text: str, *, of: str) -> Secret:
    """
    Take `text`, as `of` gave it, for a bearer token (RFC 6750 section 2.1: the b64token characters).

    Raises `ProviderError` for anything that a header cannot carry. The message never quotes the text.
    """
    if not text:
        raise ProviderError(f"{of} is empty", hint="it must hold one access token")
    if len(text) > MAX_TOKEN:
        raise ProviderError(f"{of} holds {len(text)} characters; a token has at most {MAX_TOKEN}")
    if not _B64TOKEN.fullmatch(text):
        raise ProviderError(
            f"{of} does not hold a bearer token: it has characters that RFC 6750 does not allow",
            hint="it must be the token alone: no quotes, no 'Bearer ', no line breaks",
        )
    return Secret(text)


def claims(secret: Secret) -> dict[str, Any]:
    """
    The claims of a token that is a JWT (RFC 7519), unverified; empty for any other token.

    Good for knowing when our own token expires. Never a reason to trust anybody.
    """
    parts = secret.reveal().split(".")
    return _section(parts[1]) if len(parts) == 3 else {}


def _section(part: str) -> dict[str, Any]:
    """The JSON object in a part of a JWS or JWE in compact form; empty where it is none."""
    try:
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def form(secret: Secret) -> Literal["JWT", "encrypted", "opaque"]:
    """What can be read of a token: a JWT's claims; nothing of a JWE (RFC 7516 section 3.1) and of any other token."""
    parts = secret.reveal().split(".")
    if len(parts) == 5 and "enc" in _section(parts[0]):
        return "encrypted"
    return "JWT" if claims(secret) else "opaque"


def scopes(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """
    The scopes that claims name: in `scp` (Okta, Entra ID, flyteadmin), else in `scope` (RFC 9068 section 2.2.3).

    Either may be a list, or a text with blanks between.
    """
    for name in ("scp", "scope"):
        value = claims.get(name)
        if isinstance(value, str):
            return tuple(value.split())
        if isinstance(value, list):
            return tuple(scope for scope in value if isinstance(scope, str))
    return ()


def moment(value: Any) -> float | None:
    """A JWT NumericDate (RFC 7519 section 2): seconds since the epoch, or `None` if it is not one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e11 else None


def number(value: Any) -> float | None:
    """
    A count or a span of an answer, also where the server writes it as text; `None` if it is neither.

    From 0 to 1e11, as `moment`. Claims of a token are not read by this: RFC 7519 wants numbers there.
    """
    if isinstance(value, str) and len(value) <= 32 and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    return moment(value)


def anonymous(*, provider: str) -> Credential:
    """What serves a Flyte without authentication: nothing is sent."""
    return Credential(Secret(""), provider=provider)


def from_token(secret: Secret, *, provider: str, **known: Any) -> Credential:
    """A credential around a token that somebody else obtained, nobody knows when: it ends at its `exp`, if any."""
    return Credential(secret, provider=provider, **({"expires_at": moment(claims(secret).get("exp"))} | known))
