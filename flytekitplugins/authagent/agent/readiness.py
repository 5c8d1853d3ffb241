"""Whether the agent could serve: it has, or can get, a token of each upstream that a rule gives from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator

from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.http import Answer, plain
from flytekitplugins.authagent.agent.mint import Mint
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.rule import Rule
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.errors import AuthAgentError

SECONDS = 0.8
"""For which a probe is kept waiting: kubelet gives one second."""


class Readiness:
    """
    Answers probes. What it mints is kept for those who ask for tokens, so probing costs one mint a lifetime.

    A valid token that cannot be renewed is still ready: nobody is refused yet.
    """

    def __init__(self, mint: Mint) -> None:
        self._mint = mint

    def answer(self, rules: Iterable[Rule]) -> Answer | Awaitable[Answer]:
        """200, or 503 with the names of the upstreams that have no token."""
        ill, waiting = [], {}
        for rule in self._one_for_each(rules):
            name = rule.give.upstream
            try:
                source = self._mint.source(rule, Asked())
            except Refusal:  # it exchanges what callers show, and nobody has shown us anything
                ill += [name] if self._mint.healthy.get(name) is False else []
                continue
            try:
                found = source.held() or source.ask()
            except AuthAgentError:
                ill.append(name)
                continue
            if not isinstance(found, Credential):
                waiting[name] = asyncio.ensure_future(asyncio.wrap_future(found))
        return _later(ill, waiting) if waiting else _said(ill)

    def _one_for_each(self, rules: Iterable[Rule]) -> Iterator[Rule]:
        seen: set[str] = set()
        for rule in rules:
            if rule.give.upstream not in seen:
                seen.add(rule.give.upstream)
                yield rule


async def _later(ill: list[str], waiting: dict[str, asyncio.Future[Credential]]) -> Answer:
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
