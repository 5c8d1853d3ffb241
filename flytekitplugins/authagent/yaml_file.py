"""A YAML file that becomes a pydantic model, or one error that names the file, the line and the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError

MAX_FILE = 1 << 20  # bytes
MAX_NODES = 100_000  # what aliases may unfold to

_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_SECRETS = ("client_secret", "token", "password", "secret")

Model = TypeVar("Model", bound=BaseModel)
Place = tuple[str | int, ...]


def load(path: Path, model: type[Model]) -> Model:
    """
    Read `path` as `model`.

    Raises `FileNotFoundError` if it is not there, `ConfigError` if it is loose, is not YAML, or says something
    that `model` does not know. The message holds names and places, never a value: a value may be a secret in the
    wrong place.
    """
    content = trust.read(path, secret=False, limit=MAX_FILE)
    return parse(content, model, name=str(path))


def parse(content: bytes, model: type[Model], *, name: str) -> Model:
    """`load` for content that was read already; `name` is what errors call it."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
        values, lines = _Unfold(name).document(root)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as broken:
        mark = getattr(broken, "problem_mark", None)
        place = f"{name}, line {mark.line + 1}" if mark else name
        problem = getattr(broken, "problem", None) or "it cannot be decoded"
        raise ConfigError(f"{place}: not YAML: {problem}") from None
    try:
        return model.model_validate(values)
    except ValidationError as wrong:
        raise _explained(wrong, lines, name) from None


def _explained(wrong: ValidationError, lines: dict[Place, int], name: str) -> ConfigError:
    problems, hints = [], []
    for error in wrong.errors(include_input=False, include_url=False):
        place = _in_the_file(error["loc"], lines)
        key = ".".join(str(part) for part in place) or "the file"
        cause = error.get("ctx", {}).get("error")
        what = _message(error["type"], error["msg"], cause)
        problems.append(f"{name}, line {_line(place, lines)}: {key}: {what}")
        if error["type"] == "extra_forbidden" and place[-1] in _SECRETS:
            hints.append(f"a secret never stands in this file; put it in one of its own, named by {place[-1]}_file")
    return ConfigError("; ".join(problems), hint="; ".join(dict.fromkeys(hints)))


def _in_the_file(place: Place, lines: dict[Place, int]) -> Place:
    """The place as the reader sees it: pydantic puts the tag of a union into it, which is not a key of the file."""
    found: Place = ()
    for part in place[:-1]:
        if (*found, part) in lines:
            found += (part,)
    return found + place[-1:]


def _line(place: Place, lines: dict[Place, int]) -> int:
    while place not in lines:  # a missing key has no line: its parent's is where it belongs
        place = place[:-1]
    return lines[place]


def _message(kind: str, message: str, cause: object) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "missing":
        return "is missing"
    if isinstance(cause, Exception):
        return str(cause.args[0]) if cause.args else message
    return message[:1].lower() + message[1:]


class _Unfold:
    """Turns YAML nodes into plain values, and remembers the line of each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loader = yaml.SafeLoader("")
        self._left = MAX_NODES
        self._lines: dict[Place, int] = {(): 1}

    def document(self, root: yaml.Node | None) -> tuple[Any, dict[Place, int]]:
        return ({} if root is None else self._value(root, ())), self._lines

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ConfigError(f"{self._name} unfolds to more than {MAX_NODES} values")
        line = node.start_mark.line + 1
        self._lines.setdefault(place, line)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _COLLECTIONS:
            raise ConfigError(f"{self._name}, line {line}: not YAML as it is read here: a tag")
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*place, n)) for n, child in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _items(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            key = self._loader.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ConfigError(f"{self._name}, line {line}: a key must be text")
            if key in seen:
                raise ConfigError(f"{self._name}, line {line}: {key!r} stands here twice")
            seen.add(key)
            here = (*place, key)
            self._lines[here] = line
            yield key, self._value(value_node, here)
