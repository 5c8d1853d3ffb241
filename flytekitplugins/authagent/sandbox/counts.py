"""What was asked of the sandbox, by whom, and how it was answered."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any


class Counts:
    """
    Counters behind `GET /counts`, safe to use from any thread.

    `client` is the OAuth client that a token was minted for, or `"anonymous"` for a call without a token that
    the sandbox knows.
    """

    EVENTS = (
        "sign_ins",  # somebody agreed on the sign-in page, and their browser took a code along
        "denials",  # somebody did not, there or on the page for devices
        "codes",  # an authorization code became a token
        "refreshes",  # a refresh token did
        "device",  # a device was given a code to show
        "polls",  # a device asked whether somebody agreed
        "exchanges",  # a token became another
        "assertions",  # a JWT became a token
        "revocations",
        "introspections",
        "userinfo",
        "refused_requests",  # an endpoint beside the token endpoint answered with an error
    )
    """What is counted by client beside tokens and RPCs, each a key of the snapshot."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mints: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._discoveries: Counter[str] = Counter()
        self._rpcs: Counter[tuple[str, str, bool]] = Counter()
        self._events: Counter[tuple[str, str]] = Counter()
        self._expired = 0

    def mint(self, client: str) -> None:
        """A token was issued to `client`."""
        with self._lock:
            self._mints[client] += 1

    def refuse_mint(self, client: str) -> None:
        """A token request of `client` was answered with an error, spoiled or never answered."""
        with self._lock:
            self._refusals[client] += 1

    def note(self, event: str, client: str) -> None:
        """One of `EVENTS` happened to `client`."""
        with self._lock:
            self._events[event, client] += 1

    def discover(self, document: str) -> None:
        """Somebody read a metadata document (`openid-configuration`, `jwks`, ...)."""
        with self._lock:
            self._discoveries[document] += 1

    def rpc(self, method: str, client: str, *, accepted: bool, expired: bool = False) -> None:
        """A gRPC call of `method` (short name, such as `GetTask`) passed authentication, or did not."""
        with self._lock:
            self._rpcs[method, client, accepted] += 1
            self._expired += expired

    def reset(self) -> None:
        """Start again from zero."""
        with self._lock:
            for counter in (self._mints, self._refusals, self._discoveries):
                counter.clear()
            self._rpcs.clear()
            self._events.clear()
            self._expired = 0

    def snapshot(self) -> dict[str, Any]:
        """
        Everything counted so far, ready for JSON.

        `{"mints": {client: n}, "refused_mints": {client: n}, "discoveries": {document: n},
        "rpcs": {method: {"accepted": n, "rejected": n}}, "clients": {client: {method: {...}}},
        "expired_tokens": n}`, and for each of `EVENTS` `{client: n}`.
        """
        with self._lock:
            rpcs: dict[str, dict[str, int]] = {}
            clients: dict[str, dict[str, dict[str, int]]] = {}
            for (method, client, accepted), n in sorted(self._rpcs.items()):
                verdict = "accepted" if accepted else "rejected"
                for of_method in (rpcs, clients.setdefault(client, {})):
                    of_method.setdefault(method, {"accepted": 0, "rejected": 0})[verdict] += n
            return {
                "mints": dict(self._mints),
                "refused_mints": dict(self._refusals),
                "discoveries": dict(self._discoveries),
                "rpcs": rpcs,
                "clients": clients,
                "expired_tokens": self._expired,
                **{event: self._of(event) for event in self.EVENTS},
            }

    def _of(self, event: str) -> dict[str, int]:
        return {client: n for (one, client), n in sorted(self._events.items()) if one == event}
