"""What the agent counts, as Prometheus reads it (exposition format 0.0.4)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, NamedTuple

from flytekitplugins.authagent.agent.attestor import Attestor
from flytekitplugins.authagent.agent.mint import Mint


class Beside(NamedTuple):
    """Numbers by metric and outcome: what only grows, and how things stand."""

    counters: dict[str, dict[str, float]]
    gauges: dict[str, dict[str, float]]


class Metrics:
    """
    The counters of the request path, plain numbers until somebody looks.

    No label ever holds anything that a caller said.
    """

    def __init__(self, mint: Mint, connections: Sized) -> None:
        self._mint = mint
        self._connections = connections
        self.answers: Counter[str] = Counter()
        self.reloads: Counter[str] = Counter()
        self.cached = 0
        self.waited = 0
        self.expires_at: dict[str, float] = {}
        self.started = time.time()
        self.beside: list[Callable[[], Beside]] = []
        """What others of the process count, asked for when somebody looks."""

    def text(self, attestor: Attestor, *, ready: bool) -> bytes:
        """All of them, one family after the other."""
        from prometheus_client.exposition import generate_latest

        return generate_latest(_Families(list(self._families(attestor, ready=ready))))

    def _families(self, attestor: Attestor, *, ready: bool) -> Iterator[Any]:
        mint, now = self._mint, time.time()
        yield _counter("requests", "Token requests by how they were answered", self.answers, "outcome")
        yield _counter("attestations", "Attestations by how they ended", attestor.counts(), "outcome")
        yield _counter("mints", "Tokens obtained from an upstream", mint.minted, "upstream")
        yield _counter("mint_failures", "Attempts that brought no token, renewals among them", mint.failed, "upstream")
        yield _counter("cache_hits", "Answers that needed no upstream", {"": self.cached})
        yield _counter("cache_misses", "Answers that waited for one", {"": self.waited})
        yield _counter("reloads", "Times the configuration was read again", self.reloads, "outcome")
        left = {name: round(moment - now, 3) for name, moment in self.expires_at.items()}
        yield _gauge("token_seconds_to_expiry", "Left of the last token given", left, "upstream")
        up = {name: int(healthy) for name, healthy in mint.healthy.items()}
        yield _gauge("upstream_up", "Whether the last attempt to mint brought a token", up, "upstream")
        yield _gauge("ready", "Whether it can write its audit file and attest callers", {"": int(ready)})
        yield _gauge("sources", "Different tokens that are kept or being fetched", {"": len(mint)})
        yield _gauge("connections", "Connections that are open", {"": len(self._connections)})
        for beside in [counted() for counted in self.beside]:
            for make, families in ((_counter, beside.counters), (_gauge, beside.gauges)):
                for name, values in families.items():
                    what = f"Of the hub: {name.replace('_', ' ')}"
                    yield make(f"hub_{name}", what, values, None if "" in values else "outcome")
        yield _gauge("start_time_seconds", "When it started, in seconds since the epoch", {"": self.started})


class _Families:
    """What the exposition asks for its families."""

    def __init__(self, families: list[Any]) -> None:
        self._families = families

    def collect(self) -> list[Any]:
        return self._families


def _counter(name: str, what: str, values: Mapping[str, float], label: str | None = None) -> Any:
    from prometheus_client.core import CounterMetricFamily

    return _filled(CounterMetricFamily(f"authagent_{name}", what, labels=[label] if label else []), values)


def _gauge(name: str, what: str, values: Mapping[str, float], label: str | None = None) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    return _filled(GaugeMetricFamily(f"authagent_{name}", what, labels=[label] if label else []), values)


def _filled(family: Any, values: Mapping[str, float]) -> Any:
    for key, value in sorted(values.items()):
        family.add_metric([key] if key else [], value)
    return family
