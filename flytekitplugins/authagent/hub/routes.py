"""What the hub answers at its address: to people, to their browsers, and to everybody as any agent does."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from flytekitplugins.authagent.agent.asked import check_form
from flytekitplugins.authagent.agent.audit import Audit
from flytekitplugins.authagent.agent.http import Answer, Request, document, not_allowed, plain, refused
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal, busy, invalid_request, unavailable
from flytekitplugins.authagent.agent.server import Server
from flytekitplugins.authagent.credential import MAX_TOKEN, Secret
from flytekitplugins.authagent.errors import AuthAgentError, ProviderUnavailable
from flytekitplugins.authagent.hub.grants import POLL_SECONDS, Grants, deposit_of, not_found, refusal_of, told
from flytekitplugins.authagent.hub.page_flow import PageFlow
from flytekitplugins.authagent.hub.people import People
from flytekitplugins.authagent.hub.person import Person
from flytekitplugins.authagent.hub.rates import Rates
from flytekitplugins.authagent.hub.records import is_grant_id
from flytekitplugins.authagent.hub.store import Grant
from flytekitplugins.authagent.hub.watch import facts

Found = TypeVar("Found")

ANSWER_SECONDS = 30.0
"""For all that a request of a person may wait for: the database, Flyte, the identity provider."""

WAITING = 128
"""Requests of people, and as many of browsers, that are being answered at one time."""

_FIELDS = 16
_BEARER = b'WWW-Authenticate: Bearer realm="authagent", error="invalid_token"\r\n'

Work = Callable[[], Awaitable[Answer]]
ForPerson = Callable[[Peer, Request, Person], Awaitable[Answer]]


class Routes:
    """
    Answers who comes over the network. `threads` work for people who are known, `authentication` for whoever says to be
    one: while their issuer hangs, strangers keep only each other waiting. `after_revocation` ends what is kept of a
    grant at the identity provider, and says what came of it.
    """

    def __init__(
        self,
        server: Server,
        people: People,
        grants: Grants,
        pages: PageFlow,
        audit: Audit,
        *,
        threads: Executor,
        authentication: Executor,
        longest: Callable[[], float],
        rate: float,
        after_revocation: Callable[[Grant], str],
        document_of_resource: Callable[[], dict[str, Any]],
    ) -> None:
        self._server, self._people, self._grants, self._pages = server, people, grants, pages
        self._audit, self._threads, self._authentication, self._longest = audit, threads, authentication, longest
        self._after_revocation, self._resource = after_revocation, document_of_resource
        self._rates = Rates(rate)
        self._waiting: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()

    def use(self, people: People, rate: float) -> None:
        """Go on by these settings."""
        self._people, self._rates = people, Rates(rate)

    def on_network(self, peer: Peer | None, request: Request) -> Answer | Awaitable[Answer]:
        """The answer to `request` from `peer`, whom nobody attests."""
        assert peer is not None  # noqa: S101 - a connection has another end
        if not self._rates.allows(peer.address, time.monotonic()):
            self.counts["slowed down"] += 1
            return refused(busy("too many requests; slow down", peer.address))
        if request.path.startswith(b"/consent/"):
            return self._counted("browsers", partial(self._pages.answer, peer, request))
        if request.path == b"/.well-known/oauth-protected-resource":
            return document(self._resource()) if request.method == b"GET" else not_allowed(b"GET")
        if request.path == b"/metrics":  # they are for the socket, and the health address
            return plain(404, "there is nothing here")
        if request.path != b"/grants/children" and f"{request.path.decode('latin-1')}/".startswith("/grants/"):
            return self._for_person(peer, request)
        answer = self._server.on_socket(peer, request)
        return _without_reasons(answer) if request.path == b"/readyz" else answer

    # A person's

    def _for_person(self, peer: Peer, request: Request) -> Answer | Awaitable[Answer]:
        match request.method, request.path:
            case b"GET", b"/grants":
                answer = self._list
            case b"POST", b"/grants":
                answer = self._deposit
            case b"POST", b"/grants/revoke":
                answer = self._revoke
            case _, b"/grants":
                return not_allowed(b"GET, POST")
            case _, b"/grants/revoke":
                return not_allowed(b"POST")
            case b"GET", _:
                answer = self._one
            case _:
                return not_allowed(b"GET")
        return self._counted("people", partial(self._in_time, peer, request, answer))

    def _counted(self, of: str, work: Work) -> Answer | Awaitable[Answer]:
        """`work`, unless too much of it is going on."""
        if self._waiting[of] >= WAITING:
            self.counts["too busy"] += 1
            return refused(busy("the hub is busy; try again", f"{WAITING} requests at a time"))
        self._waiting[of] += 1
        task = asyncio.ensure_future(work())
        task.add_done_callback(lambda _: self._done(of))
        return task

    def _done(self, of: str) -> None:
        self._waiting[of] -= 1

    async def _in_time(self, peer: Peer, request: Request, answer: ForPerson) -> Answer:
        """What `answer` says to whoever `request` is from, or why nothing."""
        record: dict[str, Any] = {"event": "person", "path": request.path.decode("latin-1")[:64]}
        try:
            return await asyncio.wait_for(self._authenticated(peer, request, answer, record), ANSWER_SECONDS)
        except Refusal as refusal:
            return self._refused(peer, refusal, record)
        except asyncio.TimeoutError:
            return self._refused(peer, unavailable("this takes too long; try again", "time", 5), record)
        except AuthAgentError as failed:
            return self._refused(peer, refusal_of(failed), record)

    async def _authenticated(self, peer: Peer, request: Request, answer: ForPerson, record: dict[str, Any]) -> Answer:
        shown = _bearer(request)
        person: Person = await self._in(partial(self._people.authenticate, shown), self._authentication)
        record |= {"subject": person.subject, "client": person.client}
        return await answer(peer, request, person)

    async def _deposit(self, peer: Peer, request: Request, person: Person) -> Answer:
        wanted = deposit_of(_form(request), longest=self._longest())

        def write(grant: Grant, outcome: str) -> bool:
            return self._written(peer, person, grant, outcome)

        grant, new = await self._in(partial(self._grants.deposit, person, wanted, write))
        self.counts["asked for" if grant.status == "pending" else "deposited" if new else "prolonged"] += 1
        if grant.status == "pending":
            return document(told(grant, consent_uri=self._pages.address(grant.id), interval=POLL_SECONDS), 202)
        return document(told(grant), 201 if new else 200)

    async def _list(self, peer: Peer, request: Request, person: Person) -> Answer:
        found = await self._in(partial(self._grants.mine, person))
        return document({"grants": [told(grant) for grant in found]})

    async def _one(self, peer: Peer, request: Request, person: Person) -> Answer:
        grant_id = _grant_id(request.path.removeprefix(b"/grants/").decode("latin-1"))
        grant = await self._in(partial(self._grants.one, person, grant_id))
        more = {"consent_uri": self._pages.address(grant.id)} if grant.status == "pending" else {}
        return document(told(grant, **more))

    async def _revoke(self, peer: Peer, request: Request, person: Person) -> Answer:
        form = _form(request)
        if unknown := form.keys() - {"id", "execution"}:
            raise invalid_request(f"{sorted(unknown)[0][:64]!r} does not belong here")
        if "id" in form:
            _grant_id(form["id"])
        work = partial(self._grants.revoke, person, grant_id=form.get("id"), execution=form.get("execution"))
        grant: Grant = await self._in(work)
        if not self._written(peer, person, grant, "revoked"):
            return self._unwritten()
        self.counts["revoked"] += 1
        revocation = await self._in(partial(self._after_revocation, grant))
        return document(told(grant) | {"revocation": revocation})

    def _written(self, peer: Peer, person: Person, grant: Grant, outcome: str) -> bool:
        record = {"event": "grant", "outcome": outcome, "client": person.client, **facts(grant)}
        return self._audit.write({**peer.described(), **record})

    def _refused(self, peer: Peer, refusal: Refusal, record: dict[str, Any]) -> Answer:
        reason = refusal.reason or refusal.description
        if not self._audit.write({**peer.described(), "outcome": refusal.error, "reason": reason, **record}):
            return self._unwritten()
        self.counts[f"refused: {refusal.error}"] += 1
        answer = refused(refusal)
        return answer._replace(headers=_BEARER) if refusal.status == 401 else answer

    def _unwritten(self) -> Answer:
        return refused(unavailable("the hub cannot write its audit file", "", 5))

    async def _in(self, work: Callable[[], Found], threads: Executor | None = None) -> Found:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)
        except RuntimeError:  # the threads are gone: the hub is on its way out
            raise ProviderUnavailable("the hub is stopping") from None


def _without_reasons(ready: Answer | Awaitable[Answer]) -> Answer | Awaitable[Answer]:
    """Whether the hub is ready: anybody may know that, and what is wrong is for the socket and the health address."""
    if isinstance(ready, Answer):
        return plain(503, "not ready") if ready.status == 503 else ready
    return _later_without_reasons(ready)


async def _later_without_reasons(ready: Awaitable[Answer]) -> Answer:
    answer = await ready
    return plain(503, "not ready") if answer.status == 503 else answer


def _bearer(request: Request) -> Secret:
    """The token that a person shows (RFC 6750 section 2.1). Raises `Refusal`."""
    scheme, _, shown = (request.authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not shown or len(shown) > MAX_TOKEN:
        raise Refusal(401, "invalid_token", "show an access token for this hub, as a bearer token", "none was shown")
    return Secret(shown.strip())


def _grant_id(text: str) -> str:
    """`text`, if a grant can be called that; else there is no such grant. Raises `Refusal`."""
    if not is_grant_id(text):
        raise not_found("you have no such grant")
    return text


def _form(request: Request) -> Mapping[str, str]:
    """What a form says, each name once. Raises `Refusal`."""
    check_form(request)
    try:
        pairs = parse_qsl(
            request.body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(request.body),
            errors="strict",
            max_num_fields=_FIELDS,
        )
    except ValueError:
        raise invalid_request("the body is not a form") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise invalid_request("a parameter is repeated")
    if not all(map(str.isprintable, form.values())):
        raise invalid_request("a parameter has a character that none has")
    return {name: value for name, value in form.items() if value}
