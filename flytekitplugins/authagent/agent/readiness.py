"""Whether the agent could serve: it has, or could get, a token of each upstream that a rule gives from."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.http import Answer, plain
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError

SECONDS = 0.8
"""For which a probe is kept waiting: kubelet gives one second."""


PROBED = 5.0
"""Seconds for which it is remembered that an upstream answered: probes come from anybody, and often."""


class Readiness:
    """
    Answers probes. An upstream from which nobody has asked for a token yet only has to answer; afterwards it has to
    have a token, or to give one.

    A valid token that cannot be renewed is still ready: nobody is refused yet.
    """

    def __init__(self, mint: Mint) -> None:
        self._mint = mint
        self._reached: dict[str, tuple[float, asyncio.Future[None]]] = {}

    def answer(self, rules: Iterable[Rule]) -> Answer | Awaitable[Answer]:
        """200, or 503 with the names of the upstreams that have no token."""
        ill: list[str] = []
        waiting: dict[str, asyncio.Future[Any]] = {}
        for rule in self._one_for_each(rules):
            name = rule.give.upstream
            try:
                source = self._mint.source(rule, Asked())
            except Refusal:  # it exchanges what callers show, and nobody has shown us anything
                ill += [name] if self._mint.healthy.get(name) is False else []
                continue
            if self._mint.healthy.get(name) is None:
                waiting[name] = self._reach(name)
                continue
            try:
                found = source.held() or source.ask()
            except AuthAgentError:
                ill.append(name)
                continue
            if not isinstance(found, Credential):
                waiting[name] = asyncio.ensure_future(asyncio.wrap_future(found))
        return _later(ill, waiting) if waiting else _said(ill)

    def _reach(self, name: str) -> asyncio.Future[None]:
        """Whether the upstream answers, asked once for all probes of some seconds."""
        loop = asyncio.get_running_loop()
        at, probe = self._reached.get(name, (float("-inf"), None))
        if probe is None or (probe.done() and loop.time() > at + PROBED):
            asked: Future[None] = Future()
            # A thread of its own, which the process does not wait for when it ends.
            threading.Thread(target=_landed, args=(asked, self._mint.reach, name), daemon=True).start()
            probe = asyncio.wrap_future(asked)
            self._reached[name] = (loop.time(), probe)
        return probe

    def _one_for_each(self, rules: Iterable[Rule]) -> Iterator[Rule]:
        seen: set[str] = set()
        for rule in rules:
            if rule.give.upstream not in seen:
                seen.add(rule.give.upstream)
                yield rule


def _landed(asked: Future[None], reach: Callable[[str], None], name: str) -> None:
    try:
        reach(name)
    except Exception as failed:  # whatever it is, the upstream was not reached, and the probe says so
        asked.set_exception(failed)
    else:
        asked.set_result(None)


async def _later(ill: list[str], waiting: dict[str, asyncio.Future[Any]]) -> Answer:
    await asyncio.wait(waiting.values(), timeout=SECONDS)
    for name, flight in waiting.items():
        if not flight.done():
            flight.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody asks how it ended
            ill.append(name)
        elif flight.exception() is not None:
            ill.append(name)
    return _said(ill)


def _said(ill: list[str]) -> Answer:
    return plain(503, f"no token from {', '.join(sorted(ill))}") if ill else plain(200, "ok")
