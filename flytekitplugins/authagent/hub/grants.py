"""
What a person may do with consent: give it for an execution, prolong it, look at it, take it back.

All of it waits for the database, for Flyte or for the identity provider, in the thread that calls.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flytekitplugins.authagent.agent.asked import execution as checked_execution
from flytekitplugins.authagent.agent.refusal import Refusal, busy, invalid_request, unavailable
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderUnavailable
from flytekitplugins.authagent.hub.consent import Consent, Minted
from flytekitplugins.authagent.hub.flyte import Executions, Seen
from flytekitplugins.authagent.hub.person import Person
from flytekitplugins.authagent.hub.store import Grant, Store, Taken, Tokens

USUAL = 8 * 3600.0
"""Seconds for which a grant lasts where nobody says otherwise, if it may last so long."""

SHORTEST = 60

PATIENCE = 600.0
"""Seconds that a person has to consent on the page."""

OBTAINED_WITHIN = 60.0
"""Seconds after which a consent that should have come without the person is not on its way any more."""

POLL_SECONDS = 2
"""How often to ask whether they have."""

MOST_LIVE = 1000
"""Grants of one person that may live at one time: each is looked at every few seconds, and costs a look at Flyte."""

MOST_UNLAUNCHED = 64
"""How many of those may be for executions that nobody has launched yet."""

RECENT = 24 * 3600.0
"""Seconds for which a grant that has ended is still listed."""

MOST_LISTED = 200

_UNGUESSABLE = re.compile(r".*[0-9a-f]{18}")
"""Whoever launches under a name first is acted for, so that of an execution in the future must be a secret: 72 bits."""


@dataclass(frozen=True)
class Deposit:
    """What a person asks for. `seconds`: how long it is to last; `later`: the execution is not launched yet."""

    execution: str
    seconds: float
    scopes: tuple[str, ...] = ()
    later: bool = False


def deposit_of(form: Mapping[str, str], *, longest: float) -> Deposit:
    """The deposit that a form asks for. Raises `Refusal`."""
    if unknown := form.keys() - {"execution", "expires_in", "scope", "launch"}:
        raise invalid_request(f"{sorted(unknown)[0][:64]!r} does not belong here")
    seconds = form.get("expires_in", str(int(min(USUAL, longest))))
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) < 10):
        raise invalid_request("expires_in is a number of seconds")
    if not SHORTEST <= int(seconds) <= longest:
        raise invalid_request(f"a grant lasts from {SHORTEST} s to {longest:.0f} s here")
    launch = form.get("launch", "")
    if launch not in ("", "later"):
        raise invalid_request("launch is `later`, or left out")
    scopes = tuple(dict.fromkeys(form.get("scope", "").split()))
    return Deposit(checked_execution(form.get("execution", "")), float(seconds), scopes, launch == "later")


Written = Callable[[Grant, str], bool]
"""Writes that something came of a grant, and says whether it could."""

Ended = Callable[[Grant, str], None]
"""What is told of a grant that has ended here, and why."""


def _untold(_grant: Grant, _reason: str) -> None:
    """Where nobody keeps records."""


def _unwritten(_grant: Grant, _outcome: str) -> bool:
    """Where nobody keeps records."""
    return True


class Grants:
    """See the module. `now` is in seconds since the epoch."""

    def __init__(
        self,
        store: Store,
        consent: Consent,
        executions: Executions,
        *,
        now: Callable[[], float] = time.time,
        ended: Ended = _untold,
    ) -> None:
        self._store, self._executions, self._now, self._ended = store, executions, now, ended
        self.consent = consent

    def deposit(self, person: Person, wanted: Deposit, write: Written = _unwritten) -> tuple[Grant, bool]:
        """
        The grant of `person` for an execution: a new one, or their old one prolonged; and whether it is new.

        It is pending where they have yet to consent on the page. `write` writes the audit record, before the grant is
        good for anything. Raises `Refusal`; and `Denied`, `ProviderUnavailable` and `ProviderError` where consent
        cannot be obtained, and nothing is left then.
        """
        self._check_scopes(wanted.scopes)
        self._check_room(person, wanted)
        runs = self._check_execution(person, wanted)
        until = self._now() + wanted.seconds
        page = self.consent.way == "page"
        try:
            grant = self._store.deposit(
                wanted.execution,
                person.subject,
                person.client,
                wanted.scopes or self.consent.spec.scopes,
                expires_at=until,
                launched=not wanted.later,
                pending=Secret(json.dumps({"name": person.name})),
            )
        except Taken as taken:
            if runs and make_way(self._store, taken.grant, person.subject, wanted.execution, self._ended):
                return self.deposit(person, wanted, write)
            return self._prolonged(person, wanted, taken.grant, until, write), False
        if not page:
            return self._obtained(person, grant, write), True
        if not write(grant, "asked for"):
            self._store.end(grant.id, "declined")
            raise unwritable()
        return grant, True

    def mine(self, person: Person) -> list[Grant]:
        """Those that live, and those that ended lately."""
        return self._store.of_subject(person.subject, ended_since=self._now() - RECENT, limit=MOST_LISTED)

    def one(self, person: Person, grant_id: str) -> Grant:
        """One of theirs. Raises `Refusal`: another's is as good as none."""
        grant = self._own(person, grant_id)
        if grant.status != "ended" and not grant.launched:
            seen = ask_flyte(self._executions, grant.execution)
            if seen is not None and seen.principal == grant.subject:  # another's is ended by whoever follows it
                self._store.looks.done(grant.execution, next_look=self._now(), launched=True)
                grant = self._store.get(grant_id) or grant
        return grant

    def revoke(self, person: Person, *, grant_id: str | None, execution: str | None) -> Grant:
        """End one of theirs. Raises `Refusal`."""
        if (grant_id is None) == (execution is None):
            raise invalid_request("name the grant by id or by execution")
        if execution is not None:
            found = self._store.covering(execution)
            if found is None or found.subject != person.subject:
                raise not_found("you have no grant for that execution")
            if found.execution != execution:
                raise conflict(f"your grant for {found.execution} covers that execution; revoke that one")
            grant = found
        else:
            grant = self._own(person, grant_id or "")  # whatever Flyte may say of it, or not say
        return self._store.end(grant.id, "revoked") or self._store.get(grant.id) or grant

    def _own(self, person: Person, grant_id: str) -> Grant:
        grant = self._store.get(grant_id)
        if grant is None or grant.subject != person.subject:
            raise not_found("you have no such grant")
        return grant

    def _check_room(self, person: Person, wanted: Deposit) -> None:
        live, unlaunched = self._store.count_live(person.subject)
        if live >= MOST_LIVE or (wanted.later and unlaunched >= MOST_UNLAUNCHED):
            what = "live" if live >= MOST_LIVE else "wait for executions that are not launched"
            raise busy(f"too many of your grants {what}; `authagent grants` lists them", f"{live}, {unlaunched}")

    def _check_scopes(self, scopes: tuple[str, ...]) -> None:
        has = set(self.consent.spec.scopes)
        if has and not set(scopes) <= has:
            raise Refusal(400, "invalid_scope", f"this hub asks for {' '.join(sorted(has))}, and no more")

    def _check_execution(self, person: Person, wanted: Deposit) -> bool:
        """
        Whether it runs, and Flyte says that it is theirs. Its word on who launched what can be forged, so it only ever
        takes away here. Raises `Refusal`.
        """
        seen = ask_flyte(self._executions, wanted.execution)
        if seen is None:
            if not wanted.later:
                raise not_found("Flyte knows no such execution")
            if not _UNGUESSABLE.fullmatch(wanted.execution):
                raise invalid_request(
                    "the name of an execution to come must end in 18 or more random hexadecimal digits"
                )
            return False
        if seen.over:
            raise conflict("the execution has ended")
        if seen.principal != person.subject:
            raise Refusal(403, "access_denied", "Flyte says that somebody else launched that execution")
        if wanted.later:
            raise conflict("there is an execution of that name already")
        return True

    def _prolonged(self, person: Person, wanted: Deposit, grant: Grant, until: float, write: Written) -> Grant:
        if grant.subject != person.subject:
            raise conflict("another grant covers that execution")
        if grant.execution != wanted.execution:
            raise conflict(f"your grant for {grant.execution} covers that execution already")
        if wanted.scopes and set(wanted.scopes) != set(grant.scopes):
            raise conflict("your grant for that execution has other scopes; revoke it first")
        if grant.status == "pending" and self.consent.way == "page":
            return grant
        if grant.status == "pending":  # somebody is at it, or was killed at it
            if self._now() < grant.created_at + OBTAINED_WITHIN:
                raise unavailable("your consent to that is being obtained; try again", "a pending grant", 5)
            self._store.end(grant.id, "declined")
            return self.deposit(person, wanted, write)[0]
        if not write(grant, "prolonged"):
            raise unwritable()
        longer = self._store.extend(grant.id, until)
        if longer is None:
            raise conflict("your grant for that execution has just ended; try again")
        return longer

    def _obtained(self, person: Person, grant: Grant, write: Written) -> Grant:
        """`grant`, with what tokens can be minted from; one that cannot be had is ended."""
        try:
            tokens, refused = self._first_tokens(person, grant)
        except BaseException:
            self._store.end(grant.id, "declined")
            raise
        if refused is not None:
            self._unwanted(grant, tokens)
            raise refused
        try:
            written = write(grant, "deposited")
            active = self._store.activate(grant.id, tokens) if written else None
        except BaseException:
            self._unwanted(grant, tokens)
            raise
        if active is None:
            self._unwanted(grant, tokens)
            raise conflict("the grant was revoked before it began") if written else unwritable()
        return active

    def _first_tokens(self, person: Person, grant: Grant) -> Minted:
        if self.consent.way == "exchange":
            return self.consent.exchange(person.token, person.subject, grant.scopes)
        return self.consent.mint(grant, None, tuple(sorted(grant.scopes)))

    def _unwanted(self, grant: Grant, tokens: Tokens) -> None:
        """Let `tokens` be revoked until it is done; at once, and once, where the database cannot remember to."""
        try:
            self._store.discard(grant.id, tokens, "declined")
        except AuthAgentError:
            self.consent.give_back(tokens.refresh)


def make_way(store: Store, there: Grant, subject: str, execution: str, ended: Ended) -> bool:
    """
    End a grant that somebody else was given in advance for `execution`, which Flyte has just said is `subject`'s.

    Names of children can be computed, and what others ask for under them is in the way. Whether it was.
    """
    if there.subject == subject or there.execution != execution or there.launched:
        return False
    gone = store.end(there.id, "foreign")
    if gone is not None:
        ended(gone, "foreign")
    return True


def ask_flyte(executions: Executions, execution: str) -> Seen | None:
    """What Flyte says of an execution, `None` where it knows none such. Raises `Refusal` where it does not say."""
    try:
        return executions.look(execution)
    except AuthAgentError as failed:
        raise unavailable("Flyte cannot be asked about executions for now", str(failed), 5) from None


def unwritable() -> Refusal:
    """Nothing is granted that is not written down first."""
    return unavailable("the hub cannot write its audit file", "", 5)


def not_found(description: str) -> Refusal:
    """There is no such thing, or not for the caller."""
    return Refusal(404, "not_found", description)


def conflict(description: str) -> Refusal:
    """It cannot be, as things are."""
    return Refusal(409, "conflict", description)


def told(grant: Grant, **more: Any) -> dict[str, Any]:
    """A grant as the wire has it. Moments are whole seconds since the epoch."""
    return {
        "id": grant.id,
        "execution": grant.execution,
        "subject": grant.subject,
        "scope": " ".join(grant.scopes),
        "status": grant.status,
        "reason": grant.reason,
        "created_at": int(grant.created_at),
        "expires_at": int(grant.expires_at),
        "launched": grant.launched,
        "children": grant.children,
        "revocation": grant.revocation,
        **more,
    }


def refusal_of(failed: AuthAgentError) -> Refusal:
    """What a person is told where consent could not be obtained."""
    if isinstance(failed, ProviderUnavailable):
        return unavailable("this cannot be done for now; try again", str(failed), 5)
    if isinstance(failed, Denied):
        return Refusal(403, "access_denied", "the identity provider does not allow it", str(failed))
    if isinstance(failed, ConfigError):
        return Refusal(
            500, "server_error", "the hub's configuration is at fault; its operator must mend it", str(failed)
        )
    return Refusal(503, "temporarily_unavailable", "the identity provider cannot be used", str(failed), 60)
