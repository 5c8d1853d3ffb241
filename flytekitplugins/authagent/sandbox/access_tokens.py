"""What the sandbox remembers of the access tokens that it issued, though each of them says most of it itself."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from flytekitplugins.authagent.sandbox.families import Families

MAX_REMEMBERED = 10_000
"""Access tokens remembered, newest first kept."""


@dataclass(frozen=True)
class AccessToken:
    """One access token by its `jti`. `user` is `None` where the client speaks for itself."""

    jti: str
    client_id: str
    user: str | None
    scopes: frozenset[str]
    family: str
    revoked: bool = False

    def check_client(self, client: object) -> bool:
        """Whether it was issued to this client; authlib asks."""
        return getattr(client, "id", None) == self.client_id


class AccessTokens:
    """The access tokens by `jti`. Safe to use from any thread."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._lock = threading.Lock()
        self._issued: OrderedDict[str, AccessToken] = OrderedDict()

    def keep(self, token: AccessToken) -> None:
        """Remember `token`, which was just issued."""
        with self._lock:
            self._issued[token.jti] = token
            if len(self._issued) > MAX_REMEMBERED:
                self._issued.popitem(last=False)

    def client_of(self, jti: str) -> str | None:
        """The client it was issued to, revoked or not; `None` if nobody remembers."""
        with self._lock:
            token = self._issued.get(jti)
        return token.client_id if token else None

    def find(self, jti: str) -> AccessToken | None:
        """The token, unless it or its family was revoked."""
        with self._lock:
            token = self._issued.get(jti)
        return token if token and not token.revoked and not self._families.revoked(token.family) else None

    def revoke(self, jti: str) -> None:
        """It is good for nothing here; whoever checks its signature alone does not notice (RFC 7009 section 3)."""
        with self._lock:
            if jti in self._issued:
                self._issued[jti] = replace(self._issued[jti], revoked=True)
