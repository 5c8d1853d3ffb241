"""Cron expressions of five fields, as the library reads them that flyteadmin uses (github.com/robfig/cron)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from flytekitplugins.authagent.sandbox.refusal import invalid

_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[int, int, Mapping[str, int]], ...] = (
    (0, 59, {}),  # minute
    (0, 23, {}),  # hour
    (1, 31, {}),  # day of the month
    (1, 12, _MONTHS),
    (0, 6, _DAYS),
)
_DESCRIPTORS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_EVERY = re.compile(r"@every (\d+(\.\d+)?(ns|us|ms|s|m|h))+")
_ZONE = re.compile(r"(CRON_)?TZ=\S+\s+")


def check_cron(expression: str) -> None:
    """Refuse an `expression` that is no schedule."""
    text = _ZONE.sub("", expression.strip(), count=1)
    if text.startswith("@"):
        if text not in _DESCRIPTORS and not _EVERY.fullmatch(text):
            raise _wrong(f"unrecognized descriptor: {text}")
        return
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise _wrong(f"expected exactly 5 fields, found {len(fields)}: [{' '.join(fields)}]")
    for field, (lowest, highest, names) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            _check_part(part, lowest, highest, names)


def _check_part(part: str, lowest: int, highest: int, names: Mapping[str, int]) -> None:
    """One of the parts of a field: `*`, `5`, `1-5`, `mon-fri`, each also with a step such as `/15`."""
    span, slash, step = part.partition("/")
    if slash and not (step.isdecimal() and int(step) > 0):
        raise _wrong(f"failed to parse the step of {part}")
    if span in ("*", "?"):
        return
    ends = [names.get(end.lower(), int(end) if end.isdecimal() else -1) for end in span.split("-")]
    if len(ends) > 2 or -1 in ends:
        raise _wrong(f"failed to parse {part}")
    if ends[0] < lowest or ends[-1] > highest:
        raise _wrong(f"{part} is not between {lowest} and {highest}")
    if ends[0] > ends[-1]:
        raise _wrong(f"the beginning of {part} is after its end")


def _wrong(reason: str) -> Exception:
    return invalid(f"Invalid cron expression: {reason}")
