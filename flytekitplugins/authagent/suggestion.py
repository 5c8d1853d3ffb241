"""What somebody may have meant by a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """
    `; did you mean X?` to end a message with; empty where nothing known is like `name`.

    With `prefix`, those names alone count that begin with it, and it counts for no likeness.
    """
    from difflib import get_close_matches

    def comparable(text: str) -> str:
        return text.removeprefix(prefix)[:100].lower().replace("-", "_")

    by_spelling = {comparable(spelling): spelling for spelling in known if spelling.startswith(prefix)}
    found = get_close_matches(comparable(name), by_spelling, n=1, cutoff=0.7)
    return f"; did you mean {by_spelling[found[0]]}?" if found else ""
