"""What the store keeps, as its callers see it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import Denied

_GRANT_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")

Row = Any
"""What a statement found: its columns in order. SQLAlchemy's own types for it differ from 2.0 to 2.1."""


def is_grant_id(text: str) -> bool:
    """Whether a grant can be called that. Nothing else is looked for: anybody may ask, and PostgreSQL takes no NUL."""
    return _GRANT_ID.fullmatch(text) is not None


MOST_ACCESSES = 8
"""Access tokens that are kept of one grant: whoever asks for other scopes each time drops the oldest of their own."""


@dataclass(frozen=True)
class Access:
    """An access token for `scopes`, which are sorted. Moments are seconds since the epoch, `lifetime` is in seconds."""

    token: Secret
    expires_at: float | None
    scopes: tuple[str, ...]
    obtained_at: float = 0.0
    lifetime: float | None = None


@dataclass(frozen=True)
class Tokens:
    """What the identity provider gave for a grant; moments are seconds since the epoch, `None` where nobody knows."""

    refresh: Secret | None = None
    refresh_expires_at: float | None = None
    accesses: tuple[Access, ...] = ()

    def access(self, scopes: tuple[str, ...]) -> Access | None:
        """The access token for exactly these scopes."""
        return next((access for access in self.accesses if access.scopes == scopes), None)

    @property
    def obtained_at(self) -> float:
        """When the newest access token was obtained; 0 where there is none."""
        return max((access.obtained_at for access in self.accesses), default=0.0)

    def followed_by(self, newer: Tokens) -> Tokens:
        """What is kept once `newer` was obtained for them: a refresh token that did not rotate is good still."""
        others = [old for old in self.accesses if newer.access(old.scopes) is None]
        kept = self if newer.refresh is None else newer
        return Tokens(kept.refresh, kept.refresh_expires_at, (*newer.accesses, *others)[:MOST_ACCESSES])

    def to_json(self) -> Secret:
        """The text that is sealed."""
        accesses = [[a.token.reveal(), a.expires_at, a.scopes, a.obtained_at] for a in self.accesses]
        return Secret(
            json.dumps(
                {
                    "refresh": self.refresh and self.refresh.reveal(),
                    "refresh_expires_at": self.refresh_expires_at,
                    "accesses": accesses,
                    "lifetimes": [a.lifetime for a in self.accesses],  # a key of its own, which older releases ignore
                }
            )
        )


def tokens_from_json(text: Secret) -> Tokens:
    """The tokens that `to_json` wrote; keys that a newer release added are left out."""
    found = json.loads(text.reveal())
    refresh, accesses = found.get("refresh"), found.get("accesses", ())
    lifetimes = found.get("lifetimes", [None] * len(accesses))
    return Tokens(
        Secret(refresh) if refresh is not None else None,
        found.get("refresh_expires_at"),
        tuple(
            Access(Secret(token), expires_at, tuple(scopes), obtained_at, lifetime)
            for (token, expires_at, scopes, obtained_at), lifetime in zip(accesses, lifetimes, strict=True)
        ),
    )


@dataclass(frozen=True)
class Grant:
    """
    One person's consent that an execution, and the children that it launches, may act for them.

    `status` is pending, active or ended; `reason` says why it ended and is empty before; `revocation` is none, pending,
    done or unsupported. `children` counts the executions that it covers now beside its own.
    """

    id: str
    execution: str
    subject: str
    client: str
    scopes: tuple[str, ...]
    status: str
    reason: str
    created_at: float
    expires_at: float
    ended_at: float | None
    launched: bool
    children: int
    revocation: str


NEVER_BEGAN = frozenset({"declined", "never_launched", "foreign"})
"""Ends of grants that were never good for anything: without them all is as if nobody had been asked."""


def began(grant: Grant) -> bool:
    """Whether a grant is, or was, good for something."""
    return grant.status == "active" or (grant.status == "ended" and grant.reason not in NEVER_BEGAN)


def row_from_grant(grant: Grant, *, next_try: float) -> dict[str, Any]:
    """The columns of `grant`. Its revocation is to be tried from `next_try` on, where there is something to revoke."""
    return vars(grant) | {"scopes": " ".join(grant.scopes), "next_try": next_try}


def grant_from_row(row: Row, *, launched: bool | None = None) -> Grant:
    """The grant in the first columns of `row`, those of `statements.GRANT`; with `launched`, where that is given."""
    return Grant(
        row[0],
        row[1],
        row[2],
        row[3],
        tuple(row[4].split()),
        row[5],
        row[6],
        row[7],
        row[8],
        row[9],
        row[10] if launched is None else launched,
        row[11],
        row[12],
    )


def found_grant(row: Row | None) -> Grant | None:
    """The grant in `row`, if one was found."""
    return None if row is None else grant_from_row(row)


@dataclass(frozen=True)
class Held:
    """An active grant and its tokens."""

    grant: Grant
    tokens: Tokens


class TooMany(Denied):
    """The grant covers as many children as one may."""

    def __init__(self) -> None:
        super().__init__("the grant covers too many executions", hint="wait until some of them have ended")

    def again(self) -> TooMany:
        """The same anew, for another caller."""
        return TooMany()


class Taken(Denied):
    """The execution has a live grant already: `grant`."""

    def __init__(self, grant: Grant) -> None:
        super().__init__("the execution has a live grant already")
        self.grant = grant

    def again(self) -> Taken:
        """The same anew, for another caller."""
        return Taken(self.grant)
