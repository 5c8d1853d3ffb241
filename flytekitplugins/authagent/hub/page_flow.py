"""
Consent in a browser: the question, the sign-in at the identity provider as the hub's client, and the way back.

Everything that one replica must know of what another one began stands in the database, sealed, with the grant.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import parse_qsl

from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.http import FORM, Answer, Request, not_allowed
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import AuthAgentError, Denied, ProviderUnavailable
from flytekitplugins.authagent.hub import pages
from flytekitplugins.authagent.hub.browsers import Browsers
from flytekitplugins.authagent.hub.consent import Consent, OtherPerson
from flytekitplugins.authagent.hub.flyte import Executions
from flytekitplugins.authagent.hub.page_request import PageRequest
from flytekitplugins.authagent.hub.records import is_grant_id
from flytekitplugins.authagent.hub.store import Grant, Store, Tokens
from flytekitplugins.authagent.hub.watch import facts
from flytekitplugins.authagent.oauth import authorization_code
from flytekitplugins.authagent.oauth.authorization_code import Started

Found = TypeVar("Found")

logger = logging.getLogger(__name__)

CALLBACK = "/consent/callback"
SECONDS = 30.0
"""For one page, whatever it waits for."""

MAX_QUERY = 16 * 1024
_FIELDS = 16


@dataclass(frozen=True)
class Begun:
    """
    A sign-in that a browser was sent to: what its return is checked against, and which browser it was.

    `name` is what the person is called who is to consent.
    """

    state: Secret
    verifier: Secret
    browser: str
    name: str

    def sealed(self) -> Secret:
        """As it is kept."""
        known = {"state": self.state.reveal(), "verifier": self.verifier.reveal(), "browser": self.browser}
        return Secret(json.dumps(known | {"name": self.name}))


class _NotFound(ProviderUnavailable):
    """It could not be looked whether there is such a grant; so nobody is known yet who asks."""


class PageFlow:
    """
    The pages below `/consent`. `base` is the hub's own address; `outlives`: seconds that tokens work after the end of a
    grant, `None` where nobody knows.
    """

    def __init__(
        self,
        store: Store,
        consent: Consent,
        executions: Executions,
        browsers: Browsers,
        audit: Audit,
        *,
        base: str,
        threads: Executor,
        outlives: Callable[[], float | None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._executions, self._browsers, self._audit = store, executions, browsers, audit
        self._base, self._threads, self._outlives, self._now = base, threads, outlives, now
        self._secure = base.startswith("https:")
        self.consent = consent

    def use(self, consent: Consent, browsers: Browsers) -> None:
        """Go on by these settings."""
        self.consent, self._browsers = consent, browsers

    def address(self, grant_id: str) -> str:
        """Where a person consents to a grant."""
        return f"{self._base}/consent/{grant_id}"

    async def answer(self, peer: Peer, request: Request) -> Answer:
        """The page for `request`. Whatever goes wrong is a page, too."""
        try:
            return await asyncio.wait_for(self._answer(peer, PageRequest.of(request)), SECONDS)
        except asyncio.TimeoutError:
            return self._problem(503, "Not now", "This takes too long. Go back, and try again in a minute.")
        except _NotFound as failed:
            logger.debug("a consent was not looked for: %s", failed)  # anybody may ask, as often as they like
            return self._problem(503, "Not now", "The hub cannot look that up. Try again in a minute.")
        except AuthAgentError as failed:
            logger.warning("a consent was not finished: %s", failed)
            status = 503 if isinstance(failed, ProviderUnavailable) else 403
            return self._problem(status, "This did not work", "The identity provider, or the hub, did not go along.")

    async def _answer(self, peer: Peer, request: PageRequest) -> Answer:
        if request.path == CALLBACK.encode():
            return await self._returned(peer, request) if request.method == b"GET" else not_allowed(b"GET")
        if request.method not in (b"GET", b"POST"):
            return not_allowed(b"GET, POST")
        grant_id = request.path.removeprefix(b"/consent").removeprefix(b"/").decode("latin-1")
        found = await self._pending(grant_id)
        if found is None or self.consent.way != "page":
            return await self._nothing_to_ask(grant_id)
        grant, kept = found
        if request.method == b"GET":
            return await self._ask(request, grant, _name(kept))
        return await self._decided(peer, request, grant, kept)

    async def _pending(self, grant_id: str) -> tuple[Grant, Secret] | None:
        """What waits for consent under a name that anybody may have made up."""
        return await self._found(partial(self._store.pending, grant_id)) if is_grant_id(grant_id) else None

    async def _found(self, look: Callable[[], Found]) -> Found:
        try:
            return await self._in(look)
        except AuthAgentError as failed:
            raise _NotFound(str(failed)) from None

    async def _nothing_to_ask(self, grant_id: str) -> Answer:
        grant = await self._found(partial(self._store.get, grant_id)) if is_grant_id(grant_id) else None
        if grant is not None and grant.status == "active":
            return pages.done(grant.execution, expires_at=grant.expires_at, now=self._now(), secure=self._secure)
        return self._problem(
            404, "Nothing to allow here", "This link has been used, or is too old. Start again where it came from."
        )

    async def _ask(self, request: PageRequest, grant: Grant, name: str) -> Answer:
        sign_in = await self._in(lambda: self.consent.sign_in)
        seen, silent = None, False
        try:
            seen = await self._in(partial(self._executions.look, grant.execution))
        except AuthAgentError as failed:
            logger.warning("a consent page cannot say who launched its execution: %s", failed)
            silent = True
        proof, cookie = self._browsers.invite(request.cookie, grant.id)
        question = pages.Question(
            execution=grant.execution,
            subject=_called(grant, name),
            scopes=grant.scopes,
            expires_at=grant.expires_at,
            flyte=self._executions.name,
            launched_by=None if seen is None else seen.principal,
            flyte_is_silent=silent,
            outlives=self._outlives(),
        )
        return pages.consent(
            question, proof, sign_in_origin=sign_in, now=self._now(), secure=self._secure, set_cookie=cookie
        )

    async def _decided(self, peer: Peer, request: PageRequest, grant: Grant, kept: Secret) -> Answer:
        form = _fields(request.body) if request.content_type == FORM else {}
        if not self._browsers.invited(
            request.cookie, request.origin, grant.id, form.get("proof", ""), fetch_site=request.fetch_site
        ):
            return self._problem(
                403,
                "Not from this page",
                "This answer was not made on the hub's own page, in this browser. Load it again.",
            )
        if form.get("decision") == "deny":
            return await self._declined(peer, grant)
        if form.get("decision") != "allow":
            return self._problem(400, "No decision", "The form does not say what was decided. Go back, and try again.")
        browser = self._browsers.binding(request.cookie, grant.id)
        if browser is None:
            return self._problem(
                403, "No cookie", "This browser keeps no cookies, and without one this cannot be done."
            )
        state = f"{grant.id}.{secrets.token_urlsafe(24)}"
        started = await self._in(partial(self.consent.begin, self._base + CALLBACK, state, grant.scopes))
        begun = Begun(started.state, started.verifier, browser, _name(kept))
        if not await self._in(partial(self._store.amend, grant.id, begun.sealed())):
            return await self._nothing_to_ask(grant.id)
        return pages.onward(started.url, secure=self._secure)

    async def _returned(self, peer: Peer, request: PageRequest) -> Answer:
        """The identity provider sent the browser back. Nothing of the query is believed before its `state` is ours."""
        query = _fields(request.query)
        grant_id = query.get("state", "").partition(".")[0]
        found = await self._pending(grant_id)
        if found is None:
            return await self._nothing_to_ask(grant_id)
        grant, kept = found
        begun = _begun(kept)
        if begun is None or not self._browsers.bound(request.cookie, grant.id, begun.browser):
            return self._stray()
        metadata = await self._in(lambda: self.consent.client.metadata)
        started = Started(
            "",
            self._base + CALLBACK,
            begun.state,
            begun.verifier,
            metadata.issuer,
            metadata.authorization_response_iss_parameter_supported,
        )
        if not authorization_code.is_answer(query, started):
            return self._stray()
        # Once only, whatever comes of it: the code, and with it the verifier, is not to be tried twice.
        if not await self._in(
            partial(self._store.amend, grant.id, Secret(json.dumps({"name": begun.name})), instead_of=kept)
        ):
            return await self._nothing_to_ask(grant.id)
        try:
            code = authorization_code.code(query, started)
        except Denied:
            return await self._declined(peer, grant) if query.get("error") == "access_denied" else self._stray()
        return await self._in(partial(self._finished, peer, grant, code, started))

    def _finished(self, peer: Peer, grant: Grant, code: Secret, started: Started) -> Answer:
        """In a thread: what the code brings is kept, if it is of the person who asked, and given back if it is not."""
        tokens, refused = self.consent.tokens_of(self.consent.finish(code, started), grant.subject, grant.scopes)
        # Written first: nothing is active that is not written down.
        written = refused is None and self._write(peer, grant, "deposited")
        try:
            active = self._store.activate(grant.id, tokens) if written else None
        except AuthAgentError:
            self._unwanted(grant, tokens)
            raise
        if active is not None:
            return pages.done(active.execution, expires_at=active.expires_at, now=self._now(), secure=self._secure)
        self._unwanted(grant, tokens)
        if isinstance(refused, OtherPerson):
            self._write(peer, grant, "somebody else signed in")
            return self._other(refused.who, grant.subject)
        if refused is not None:
            raise refused
        if written:
            return self._problem(409, "Too late", "Meanwhile this was revoked, or allowed already.")
        return self._problem(503, "Not now", "The hub cannot write its audit file, and so gives nothing.")

    def _unwanted(self, grant: Grant, tokens: Tokens) -> None:
        """
        Let `tokens` be revoked until it is done; at once, and once, where the database cannot remember to.

        They may be somebody else's, and `grant` may have others, or get them yet.
        """
        try:
            self._store.revocations.add(grant, tokens)
        except AuthAgentError:
            self.consent.give_back(tokens.refresh)

    async def _declined(self, peer: Peer, grant: Grant) -> Answer:
        if await self._in(partial(self._store.end, grant.id, "declined")) is None:
            return await self._nothing_to_ask(grant.id)  # it is allowed already, or has ended
        self._write(peer, grant, "declined")
        return pages.declined(grant.execution, secure=self._secure)

    def _write(self, peer: Peer, grant: Grant, outcome: str) -> bool:
        return self._audit.write({**peer.described(), "event": "grant", "outcome": outcome, **facts(grant)})

    def _stray(self) -> Answer:
        return self._problem(
            403, "Not the answer to this", "This browser has not asked for it, or has asked anew since. Start again."
        )

    def _other(self, who: str, wanted: str) -> Answer:
        return pages.problem(
            403,
            "Somebody else signed in",
            "You signed in as {}; this was asked for by {}. Nothing was allowed.",
            who or "somebody whom the identity provider does not name",
            wanted or "somebody else",
            secure=self._secure,
        )

    def _problem(self, status: int, title: str, words: str) -> Answer:
        return pages.problem(status, title, words, secure=self._secure)

    async def _in(self, work: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _fields(text: bytes) -> dict[str, str]:
    """A query or a form, each name once; nothing of one that cannot be read."""
    if len(text) > MAX_QUERY:
        return {}
    try:
        pairs = parse_qsl(text.decode("ascii"), max_num_fields=_FIELDS, errors="strict")
    except ValueError:
        return {}
    form = dict(pairs)
    return form if len(form) == len(pairs) else {}


def _begun(kept: Secret) -> Begun | None:
    content = json.loads(kept.reveal())
    if not {"state", "verifier", "browser"} <= content.keys():
        return None
    return Begun(Secret(content["state"]), Secret(content["verifier"]), content["browser"], content.get("name", ""))


def _name(kept: Secret) -> str:
    """What the person is called who is to consent, where the issuer said it."""
    return str(json.loads(kept.reveal()).get("name", ""))


def _called(grant: Grant, name: str) -> str:
    """The person of `grant`, for that person to read: a `sub` may be a number that nobody knows."""
    return f"{name} ({grant.subject})" if name and name != grant.subject else grant.subject
