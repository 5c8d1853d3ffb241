"""What the agent counts, as text that Prometheus reads (exposition format 0.0.4)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping

PREFIX = "authagent_"


class Metrics:
    """Counters of the request path. No label ever holds anything that a caller said."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.cached = 0
        self.waited = 0
        self.expires_at: dict[str, float] = {}

    def text(self, minted: Mapping[str, int], failed: Mapping[str, int], connections: int) -> str:
        """All of them, one family after the other."""
        now = time.time()
        expiry = {name: round(moment - now, 3) for name, moment in self.expires_at.items()}
        return "".join(
            [
                _family(
                    "requests_total", "counter", "Token requests by how they were answered", "outcome", self.answers
                ),
                _family("mints_total", "counter", "Tokens obtained from an upstream", "upstream", minted),
                _family("mint_failures_total", "counter", "Attempts that brought no token", "upstream", failed),
                _family("cache_hits_total", "counter", "Answers that needed no upstream", None, {"": self.cached}),
                _family("cache_misses_total", "counter", "Answers that waited for one", None, {"": self.waited}),
                _family("token_seconds_to_expiry", "gauge", "Left of the last token given", "upstream", expiry),
                _family("connections", "gauge", "Connections that are open", None, {"": connections}),
            ]
        )


def _family(name: str, kind: str, what: str, label: str | None, values: Mapping[str, float]) -> str:
    lines = [f"# HELP {PREFIX}{name} {what}.", f"# TYPE {PREFIX}{name} {kind}"]
    for key, value in sorted(values.items()):
        tag = f'{{{label}="{_escaped(key)}"}}' if label else ""
        lines.append(f"{PREFIX}{name}{tag} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
