"""Which binding serves a context: the first whose every pattern matches."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from flytekitplugins.authagent.config import Binding
from flytekitplugins.authagent.context import Context


def select(bindings: Iterable[Binding], context: Context) -> Binding | None:
    """The first binding that is for `context`, or `None`. A pattern never matches what is not known."""
    return next((b for b in bindings if not mismatches(b, context)), None)


def mismatches(binding: Binding, context: Context) -> list[str]:
    """Why `binding` is not for `context`: a reason for each pattern that does not match."""
    facts = context.facts()
    wanted = binding.when.model_dump(exclude_none=True)
    return [
        f"{name} is {facts[name] or 'not known'}, not {pattern}"
        for name, pattern in wanted.items()
        if not (facts[name] and fnmatchcase(facts[name] or "", pattern))
    ]
