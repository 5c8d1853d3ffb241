"""What tasks with `cache=True` put out before."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from flyteidl.core import literals_pb2, tasks_pb2

LARGEST = 1000
"""How many results are kept."""


class Cache:
    """
    Results of tasks by their name, interface, cache version and inputs, in memory; the latest ones are kept.

    The version of the registration does not matter, only the one that `cache_version=` names.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._results: OrderedDict[bytes, literals_pb2.LiteralMap] = OrderedDict()

    def get(self, template: tasks_pb2.TaskTemplate, inputs: literals_pb2.LiteralMap) -> literals_pb2.LiteralMap | None:
        """What the task put out for these inputs, if it has run."""
        return self._results.get(_key(template, inputs))

    def put(
        self,
        template: tasks_pb2.TaskTemplate,
        inputs: literals_pb2.LiteralMap,
        outputs: literals_pb2.LiteralMap,
    ) -> None:
        """Keep what the task put out."""
        self._results[_key(template, inputs)] = outputs
        while len(self._results) > self._largest:
            self._results.popitem(last=False)


def _key(template: tasks_pb2.TaskTemplate, inputs: literals_pb2.LiteralMap) -> bytes:
    ignored = template.metadata.cache_ignore_input_vars
    counted = {name: literal for name, literal in inputs.literals.items() if name not in ignored}
    identifier = template.id
    parts = (
        *(part.encode() for part in (identifier.project, identifier.domain, identifier.name)),
        template.metadata.discovery_version.encode(),
        template.interface.SerializeToString(deterministic=True),
        literals_pb2.LiteralMap(literals=counted).SerializeToString(deterministic=True),
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
