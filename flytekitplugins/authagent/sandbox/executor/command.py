"""What an attempt runs: the command in its task's own template, filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flyteidl.core import literals_pb2, tasks_pb2
from google.protobuf.json_format import MessageToDict

from flytekitplugins.authagent.sandbox.executor.failure import user_error

_DESTINATIONS = ("--dest-dir", "--dynamic-dest-dir")
_VARIABLE = re.compile(r"\{\{\s*[.$](\w+)(?:\.(\w+))?\s*\}\}")


@dataclass(frozen=True)
class Command:
    """A command line and the environment that the template asks for."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]


def runs_here(template: tasks_pb2.TaskTemplate) -> bool:
    """Whether the sandbox can run this task: it has a container, and needs no image and no data loader."""
    if template.HasField("k8s_pod"):
        return True
    return template.HasField("container") and not template.container.data_config.enabled


def command(
    template: tasks_pb2.TaskTemplate,
    places: Mapping[str, str],
    inputs: literals_pb2.LiteralMap,
) -> Command:
    """
    The command of `template` with `places` put in, by the names that propeller has for them, in lower case.

    Where the command says into which directory the user's code is to be unpacked, it is told `.`, the
    attempt's own directory: `pyflyte register` says `/root`, which is somebody's home on this machine.
    """
    container = _container(template)
    argv = [_filled(word, places, inputs) for word in (*container.command, *container.args)]
    for before, option in enumerate(argv[:-1]):
        if option in _DESTINATIONS:
            argv[before + 1] = "."
    if not argv:
        raise user_error("BadTaskSpecification", f"task {template.id.name} has no command")
    return Command(tuple(argv), {pair.key: pair.value for pair in container.env})


def _filled(word: str, places: Mapping[str, str], inputs: literals_pb2.LiteralMap) -> str:
    def value(match: re.Match[str]) -> str:
        name, field = match[1].lower(), match[2]
        if name == "inputs" and field:
            return _text(inputs.literals.get(field))
        return places.get(name, match[0])

    return _VARIABLE.sub(value, word)


def _text(literal: literals_pb2.Literal | None) -> str:
    primitive = literal.scalar.primitive if literal is not None else literals_pb2.Primitive()
    kind = primitive.WhichOneof("value")
    if kind is None:
        raise user_error("BadTaskSpecification", "the sandbox puts only plain values into a command line")
    value = getattr(primitive, kind)
    return str(value.ToJsonString() if kind in ("datetime", "duration") else value)


def _container(template: tasks_pb2.TaskTemplate) -> tasks_pb2.Container:
    if not template.HasField("k8s_pod"):
        return template.container
    pod = template.k8s_pod
    primary = pod.primary_container_name or template.config.get("primary_container_name", "")
    containers = MessageToDict(pod.pod_spec).get("containers", [])
    for candidate in containers:
        if candidate.get("name") == primary or len(containers) == 1:
            return tasks_pb2.Container(
                command=candidate.get("command", []),
                args=candidate.get("args", []),
                env=[
                    literals_pb2.KeyValuePair(key=entry["name"], value=entry.get("value", ""))
                    for entry in candidate.get("env", [])
                ],
            )
    raise user_error("BadTaskSpecification", f"the pod of task {template.id.name} has no container {primary!r}")
