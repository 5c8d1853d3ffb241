"""
Keeping what tokens of a person are minted from, so that a refresh token which rotates is spent once.

Whatever the identity provider hands out is in the database before anybody uses it. Where the database cannot take it at
that moment it is kept here until it can, and nobody gets it meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError, ProviderUnavailable
from flytekitplugins.authagent.hub.consent import Consent, Lost
from flytekitplugins.authagent.hub.store import Grant, Store, Tokens
from flytekitplugins.authagent.hub.token_custody import InCustody

logger = logging.getLogger(__name__)

EARLY = 300.0
"""Seconds before its end from which a token is replaced; half its life for a short one."""

MARGIN = 2.0
"""Seconds that a token must still be good for, to arrive."""

PAUSE = 2.0
"""Seconds for which a failure answers all who ask under the same grant."""

SLACK = 1.0
"""Seconds that a wish for a lifetime may be missed by: lifetimes are whole seconds on the wire."""

FORCED_INTERVAL = 2.0
"""Seconds between two refreshes of one grant, and for which a token is not replaced before it is due."""

FAILURES = 256
"""Failures that are remembered, the oldest dropped first."""

UNSAVED = 4096
"""Rotations that are kept while the database cannot take them."""


class TooSoon(Exception):
    """The grant was refreshed a moment ago: ask again after so many `seconds`, and keep no thread meanwhile."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"in {seconds:g} s")
        self.seconds = seconds


class Custody:
    """
    The tokens of grants. Safe to use from any thread; `now` is in seconds since the epoch, `ended` is told of a grant
    that has ended here.
    """

    def __init__(
        self,
        store: Store,
        consent: Consent,
        now: Callable[[], float] = time.time,
        *,
        ended: Callable[[Grant, str], None],
    ) -> None:
        self._store, self._ended = store, ended
        self._consent = consent
        self._now = now
        self._lock = threading.Lock()
        self._unsaved: dict[str, tuple[InCustody, Tokens]] = {}
        self._failed: dict[str, tuple[float, AuthAgentError]] = {}
        self.counts: Counter[str] = Counter()

    def use(self, consent: Consent) -> None:
        """Mint by these settings from now on."""
        self._consent = consent

    def fresh(self, tokens: Tokens, scopes: tuple[str, ...], min_lifetime: float) -> Credential | None:
        """The access token that is there, if it has these scopes and is not due yet."""
        found = _credential(tokens, scopes)
        if found is None:
            return None
        left = found.remaining(self._now())
        life = EARLY * 2 if found.lifetime is None else found.lifetime
        enough = left >= min_lifetime if min_lifetime else left > min(EARLY, life / 2)
        return found if enough and left > MARGIN else None

    def valid(self, tokens: Tokens, scopes: tuple[str, ...], min_lifetime: float) -> Credential | None:
        """The access token that is there, due or not, if it is good for long enough still."""
        found = _credential(tokens, scopes)
        if found is None or found.remaining(self._now()) <= max(min_lifetime, MARGIN):
            return None
        return found

    def may_bring(self, tokens: Tokens, scopes: tuple[str, ...], min_lifetime: float) -> bool:
        """
        Whether a mint could bring what is wished for: a wish that none can meet, or that comes again and again, is not
        to cost one each time.
        """
        found, kept = self.valid(tokens, scopes, 0), tokens.access(scopes)
        if not min_lifetime or found is None or kept is None or found.lifetime is None:
            return True
        if found.remaining(self._now()) <= min(EARLY, found.lifetime / 2):
            return True  # it is due anyway
        return found.lifetime + SLACK >= min_lifetime and self._now() >= kept.obtained_at + FORCED_INTERVAL

    def renewed(self, grant: Grant, scopes: tuple[str, ...], min_lifetime: float) -> Credential:
        """As `_renewed`; a grant whose consent is lost ends by that."""
        try:
            return self._renewed(grant, scopes, min_lifetime)
        except Lost:
            ended = self._store.end(grant.id, "lost")
            if ended is not None:
                self._ended(ended, "lost")
            raise

    def _renewed(self, grant: Grant, scopes: tuple[str, ...], min_lifetime: float) -> Credential:
        """
        A new access token under `grant`, or the one that somebody else got meanwhile.

        Waits for whoever is at it, in this process and in others. Raises `Lost` where the consent is gone for good,
        `TooSoon`, and `ProviderUnavailable`, `Denied` and `ProviderError` as the identity provider and the database
        answer.
        """
        self._check_pause(grant.id)
        self._save(grant.id)
        self._know_the_provider(grant.id)
        with self._store.custody.of(grant.id) as held:
            if held is None:
                raise Lost("the grant has ended")
            tokens = held.tokens
            found = self.fresh(tokens, scopes, min_lifetime)
            if found is not None:
                return found
            self._check_rest(tokens)
            try:
                minted, refused = self._consent.mint(grant, tokens.refresh, scopes)
            except Lost:
                raise
            except AuthAgentError as failed:
                self._pause(grant.id, failed)
                raise
            self.counts["refused" if refused else "minted"] += 1
            kept = tokens.followed_by(minted)
            try:
                held.keep(kept)
            except ProviderUnavailable:
                self._remember(grant.id, held, kept)
                raise
        if refused is not None:
            self._pause(grant.id, refused)
            raise refused
        credential = _credential(kept, scopes)
        if credential is None:
            raise ProviderUnavailable("the identity provider gave no access token")
        return credential

    def save(self) -> None:
        """Put into the database what it could not take before. Raises `ProviderUnavailable` where it still cannot."""
        for grant_id in list(self._unsaved):
            self._save(grant_id)

    @property
    def unsaved(self) -> int:
        """How many rotations are in no database yet."""
        return len(self._unsaved)

    def _know_the_provider(self, grant_id: str) -> None:
        """Read its documents now: what is in custody must not wait for them, for the database's lock runs out."""
        try:
            self._consent.client.metadata  # noqa: B018 - it is asked for them once, and then they are known
        except AuthAgentError as failed:
            self._pause(grant_id, failed)
            raise

    def _check_rest(self, tokens: Tokens) -> None:
        """Let the last refresh of this grant be a moment ago: one task may ask for ever other things."""
        left = tokens.obtained_at + FORCED_INTERVAL - self._now()
        if 0 < left <= FORCED_INTERVAL:  # one that is longer is of a clock that has changed, or is another
            raise TooSoon(left)

    def _pause(self, grant_id: str, failed: AuthAgentError) -> None:
        """Let `failed` answer all who ask under this grant for a moment."""
        now = time.monotonic()
        with self._lock:
            self._failed[grant_id] = (now + PAUSE, failed)
            while len(self._failed) > FAILURES:
                del self._failed[next(iter(self._failed))]

    def _check_pause(self, grant_id: str) -> None:
        until, failed = self._failed.get(grant_id, (0.0, None))
        if failed is not None and time.monotonic() < until:
            raise failed.again()
        self._failed.pop(grant_id, None)

    def _remember(self, grant_id: str, held: InCustody, tokens: Tokens) -> None:
        with self._lock:
            has_room = len(self._unsaved) < UNSAVED
            if has_room:
                self._unsaved[grant_id] = (held, tokens)
        if has_room:
            logger.error("the database did not take a new refresh token; it is kept in memory until it does")
        else:
            logger.error("the database did not take a new refresh token of %s, and there is no room for more", grant_id)

    def _save(self, grant_id: str) -> None:
        """What another replica kept meanwhile is newer, and stays: the store sees to that."""
        with self._lock:
            held, tokens = self._unsaved.get(grant_id, (None, None))
        if held is not None and tokens is not None:
            held.keep(tokens)
            with self._lock:
                self._unsaved.pop(grant_id, None)


def _credential(tokens: Tokens, scopes: tuple[str, ...]) -> Credential | None:
    """The access token for these scopes, if there is one."""
    found = tokens.access(scopes)
    if found is None or found.expires_at is None:
        return None
    return Credential(
        found.token, expires_at=found.expires_at, lifetime=found.lifetime, scopes=scopes, provider="grant"
    )
