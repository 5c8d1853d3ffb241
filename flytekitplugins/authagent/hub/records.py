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


@dataclass(frozen=True)
class Tokens:
    """What the identity provider gave for a grant; moments are seconds since the epoch, `None` where nobody knows."""

    refresh: Secret | None = None
    refresh_expires_at: float | None = None
    access: Secret | None = None
    access_expires_at: float | None = None
    scopes: tuple[str, ...] = ()

    def to_json(self) -> Secret:
        """The text that is sealed."""
        return Secret(
            json.dumps(
                {
                    "refresh": self.refresh and self.refresh.reveal(),
                    "refresh_expires_at": self.refresh_expires_at,
                    "access": self.access and self.access.reveal(),
                    "access_expires_at": self.access_expires_at,
                    "scopes": self.scopes,
                }
            )
        )


def tokens_from_json(text: Secret) -> Tokens:
    """The tokens that `to_json` wrote; keys that a newer release added are left out."""
    found = json.loads(text.reveal())
    refresh, access = found.get("refresh"), found.get("access")
    return Tokens(
        Secret(refresh) if refresh is not None else None,
        found.get("refresh_expires_at"),
        Secret(access) if access is not None else None,
        found.get("access_expires_at"),
        tuple(found.get("scopes", ())),
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
