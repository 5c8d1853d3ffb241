"""The way to a hub: what attested the caller is shown to it, and it decides by its own rules."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from flytekitplugins.authagent import own_words, wire
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.delegation import Delegated, Ungranted
from flytekitplugins.authagent.agent.mint import check_lifetime
from flytekitplugins.authagent.agent.policy import scopes
from flytekitplugins.authagent.agent.refusal import Refusal, no_rule
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.agent.shared_threads import SharedThreads
from flytekitplugins.authagent.agent.upstream import HubSpec, Kinds
from flytekitplugins.authagent.agent.workload import Workload
from flytekitplugins.authagent.bounded_cache import BoundedCache, text_size
from flytekitplugins.authagent.credential import Credential, Secret, claims
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Denied, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.http import Door
from flytekitplugins.authagent.oauth import error_code, token_exchange, token_response
from flytekitplugins.authagent.oauth.message import Request, Response

AT_ONCE = 64
"""Requests to hubs that are on their way at one time. Each may be kept for ten seconds: the hub waits for a grant."""

EACH = 2
"""Of these, those of one pod: whatever it asks for in however many words, it has no more than its share."""

WAITING = 512
EACH_WAITING = 30
PATIENCE = 12.0
"""Requests that wait for their turn, those of one pod, and the seconds for which they do."""

REMEMBERED = 4096
BYTES = 16 << 20
"""Tokens kept for the time in which a hub cannot be asked, and their bytes."""

LOOK_SECONDS = 3.0
"""For a look at the caller's grant, which is only told to it."""


class _Key(NamedTuple):
    """What makes two questions the same: the token of one pod never serves another."""

    upstream: str
    pod: str
    scopes: tuple[str, ...]
    audience: str | None
    subject: str | None


class Forward:
    """
    See `Delegation`. A hub is asked each time, so that a grant which has ended ends here too. Where it says nothing of
    the grant (it cannot be reached, is too slow, answers 429, 5xx or an error that is none of a hub's), the token that
    the same pod was given before for the same question stands in, while that is valid.
    """

    def __init__(self, upstreams: Mapping[str, Kinds], now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._upstreams = upstreams
        self._threads = SharedThreads(
            "authagent-hub",
            at_once=AT_ONCE,
            each=EACH,
            waiting=WAITING,
            each_waiting=EACH_WAITING,
            patience=PATIENCE,
            refusal="too many requests wait for the hub",
        )
        self._flights: dict[tuple[_Key, Asked], asyncio.Future[Delegated]] = {}
        self._kept: BoundedCache[_Key, Credential] = BoundedCache(REMEMBERED, BYTES, _size)

    def use(self, upstreams: Mapping[str, Kinds]) -> None:
        """Ask these from now on. What came from a hub that is another one now is forgotten."""
        before = self._upstreams
        self._kept.drop(lambda key, _kept: upstreams.get(key.upstream) != before.get(key.upstream))
        self._upstreams = upstreams

    async def token(self, workload: Workload, asked: Asked, rule: Rule, shown: Secret | None) -> Delegated | Ungranted:
        """See `Delegation`. The hub's own sentences are passed on."""
        if workload.pod is None or shown is None:
            raise no_rule("a hub must be shown what attests the caller, and nothing was")
        if asked.subject_token is not None:
            raise no_rule("a hub gives no token in return for another")
        wanted = scopes(rule, asked)
        key = _Key(rule.give.upstream, workload.pod.uid, wanted, asked.audience or rule.give.audience, asked.subject)
        flight = self._flights.get((key, asked))
        if flight is None:
            flight = self._flights[key, asked] = asyncio.ensure_future(self._asked(key, asked, rule, shown))
            flight.add_done_callback(lambda done: self._landed((key, asked), done))
        return await asyncio.shield(flight)

    async def adopt(self, workload: Workload, child: str, shown: Secret | None) -> dict[str, Any]:
        """See `Delegation`: the first hub is told."""
        if shown is None:
            raise no_rule("a hub must be shown what attests the caller, and nothing was")
        hub = self._hub()
        assertion = (("client_assertion_type", wire.ASSERTION_TYPE), ("client_assertion", shown.reveal()))
        told = Request(f"{hub.url}/grants/children", (("execution", child), *assertion))
        return await self._threads.run(_holder(workload), partial(_told, hub, told))

    async def grant_of(self, workload: Workload, shown: Secret | None) -> dict[str, Any] | None:
        """See `Delegation`. A hub that does not answer soon is as good as one that knows nothing."""
        if shown is None:
            return None
        hub = self._hub()
        look = Request(f"{hub.url}/identity", headers=(("Authorization", f"Bearer {shown.reveal()}"),))
        try:
            asking = self._threads.run(_holder(workload), partial(_told, hub, look))
            content = await asyncio.wait_for(asking, LOOK_SECONDS)
        except (Refusal, AuthAgentError, asyncio.TimeoutError):
            return None
        found = content.get("grant")
        return found if isinstance(found, dict) else None

    def close(self) -> None:
        """Nothing is asked any more."""
        self._threads.close()

    def _hub(self) -> HubSpec:
        return next(upstream for upstream in self._upstreams.values() if isinstance(upstream, HubSpec))

    def _landed(self, flight: tuple[_Key, Asked], done: asyncio.Future[Delegated]) -> None:
        self._flights.pop(flight, None)
        if not done.cancelled():
            done.exception()  # somebody may not wait for it any more

    async def _asked(self, key: _Key, asked: Asked, rule: Rule, shown: Secret) -> Delegated:
        hub = self._upstreams[key.upstream]
        assert isinstance(hub, HubSpec)  # noqa: S101 - the rules were checked
        try:
            credential = await self._threads.run(key.pod, partial(_exchanged, hub, key, asked, shown, self._now))
        except (ProviderUnavailable, ConfigError):
            kept = self._kept.get(key)
            if kept is None or kept.remaining(self._now()) <= max(asked.min_lifetime, 0):
                raise
            return Delegated(kept, {"hub": "not asked"})
        except (Refusal, Denied):
            self._kept.pop(key)
            raise
        check_lifetime(credential, rule.give.max_lifetime, key.upstream, rule.name)
        self._kept.put(key, credential)
        return Delegated(credential, {"speaks_for": claims(credential.token).get("sub")})


def _size(key: _Key, credential: Credential) -> int:
    return text_size(key.pod, *key.scopes, key.audience, key.subject, credential.token.reveal())


def _holder(workload: Workload) -> object:
    return workload.pod.uid if workload.pod else workload.peer


def _exchanged(hub: HubSpec, key: _Key, asked: Asked, shown: Secret, now: Callable[[], float]) -> Credential:
    """A token in return for what attests the pod (RFC 8693). Raises `Refusal` with what the hub said."""
    form = [
        ("grant_type", token_exchange.GRANT),
        ("subject_token", shown.reveal()),
        ("subject_token_type", token_exchange.JWT),
        ("audience", key.audience),
        ("scope", " ".join(key.scopes)),
        ("requested_subject", asked.subject),
        ("min_lifetime", str(asked.min_lifetime) if asked.min_lifetime else None),
        ("execution", asked.execution),
        ("task", asked.task),
    ]
    sent = Request(f"{hub.url}/token", tuple((name, value) for name, value in form if value))
    response = _sent(hub, sent)
    if response.is_refusal:
        raise _refusal(response)
    response = replace(response, headers={})  # its Date is not the issuer's
    return replace(token_response.read(response, sent, now=now(), provider=hub.kind), lifetime=None)


def _told(hub: HubSpec, request: Request) -> dict[str, Any]:
    response = _sent(hub, request)
    if response.is_refusal:
        raise _refusal(response)
    return response.json()


def _sent(hub: HubSpec, request: Request) -> Response:
    return Door(timeout=hub.timeout, ca_file=hub.ca_file, proxy=hub.proxy).send(request)


def _refusal(response: Response) -> Exception:
    """What the hub said, as our own refusal; its words are written for callers."""
    if response.status == 500 and _code(response) == "server_error":
        return ConfigError(f"{response.url} says that the hub's configuration is at fault")
    if response.status >= 500 or response.status == 429:
        return ProviderUnavailable(f"{response.url} answered {response.status}")
    answer = response.json()
    code = error_code.found(answer)
    if code is None:
        return ProviderUnavailable(f"{response.url} answered {response.status}, and not as a hub does")
    if code == "invalid_client":
        # The hub does not know the pod: to whoever asked us that is not their client authentication failing here.
        return no_rule("the hub does not know the caller")
    said = own_words.said(answer) or "the hub refuses"
    return Refusal(403 if code == "access_denied" else 400, code, said, "the hub's own words")


def _code(response: Response) -> str | None:
    try:
        return error_code.found(response.json())
    except ProviderError:  # it is no JSON: something before the hub answered
        return None
