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
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError

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
        """200, or 503 with the upstreams that have no token, and what is wrong with their configuration."""
        ill: dict[str, str] = {}
        waiting: dict[str, asyncio.Future[Any]] = {}
        for rule in self._one_for_each(rules):
            name = rule.give.upstream
            if self._mint.healthy.get(name) is None:
                waiting[name] = self._reach(name)
                continue
            try:
                source = self._mint.source(rule, Asked())
            except Refusal:  # it exchanges what callers show, and nobody has shown us anything
                ill |= {} if self._mint.healthy[name] else {name: ""}
                continue
            try:
                found = source.held() or source.ask()
            except AuthAgentError as failed:
                ill[name] = _why(failed)
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
        """A rule for each upstream, those from which is given without a grant among them."""
        seen: set[str] = set()
        for rule in rules:
            for give in filter(None, (rule.give, rule.give.otherwise)):
                if give.upstream not in seen:
                    seen.add(give.upstream)
                    yield rule if give is rule.give else rule.model_copy(update={"give": give})


def _landed(asked: Future[None], reach: Callable[[str], None], name: str) -> None:
    try:
        reach(name)
    except Exception as failed:  # whatever it is, the upstream was not reached, and the probe says so
        asked.set_exception(failed)
    else:
        asked.set_result(None)


async def _later(ill: dict[str, str], waiting: dict[str, asyncio.Future[Any]]) -> Answer:
    await asyncio.wait(waiting.values(), timeout=SECONDS)
    for name, flight in waiting.items():
        if not flight.done():
            flight.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody asks how it ended
            ill[name] = ""
        elif failed := flight.exception():
            ill[name] = _why(failed)
    return _said(ill)


def _why(failed: BaseException) -> str:
    """What the operator has to mend, where it is the configuration; the rest is the identity provider's."""
    return str(failed.args[0]) if isinstance(failed, ConfigError) else ""


def _said(ill: dict[str, str]) -> Answer:
    if not ill:
        return plain(200, "ok")
    reasons = [f"{name}: {why}" for name, why in sorted(ill.items()) if why]
    return plain(503, "; ".join([f"no token from {', '.join(sorted(ill))}", *reasons]))
