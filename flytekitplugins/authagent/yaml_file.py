"""A YAML file that becomes a pydantic model, or one error that names the file, the line and the key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from yaml.reader import ReaderError

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.suggestion import did_you_mean

MAX_FILE = 1 << 20  # bytes
MAX_NODES = 100_000  # what aliases may unfold to
MAX_PROBLEMS = 10  # that one error names
MAX_KEY = 100  # characters of a key that an error shows
MAX_INTEGER = 1 << 64  # Python cannot write numbers of any length, not even into an error

_DEEP = "nested too deeply"
_STANDARD = "tag:yaml.org,2002:"
_COLLECTIONS = tuple(_STANDARD + name for name in ("map", "seq"))
_SCALARS = tuple(_STANDARD + name for name in ("str", "int", "float", "bool", "null", "timestamp", "binary"))
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
    """
    Read `content`, which `name` held, as `model`.

    Raises `ConfigError` for everything that the parser, PyYAML's constructors or the model raise.
    """
    try:
        values, lines = _Unfold(name).document(_composed(content, name))
        return _validated(values, model, lines, name)
    except ConfigError:
        raise
    except Exception as broken:  # PyYAML raises ValueError, KeyError, AttributeError, OverflowError and more
        problem = _DEEP if isinstance(broken, RecursionError) else type(broken).__name__
        raise ConfigError(f"{name} cannot be read: {problem}") from None


def _composed(content: bytes, name: str) -> yaml.Node | None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = content.count(b"\n", 0, broken.start) + 1
        raise ConfigError(f"{name}, line {line}: not UTF-8") from None
    line = 1
    try:
        loader = yaml.SafeLoader(text)
        try:
            root: yaml.Node | None = loader.get_single_node()
        finally:
            line = loader.line + 1
    except ReaderError as broken:
        line = text.count("\n", 0, broken.position) + 1
        raise ConfigError(f"{name}, line {line}: not YAML: a character that YAML does not allow") from None
    except yaml.MarkedYAMLError as broken:
        mark = broken.problem_mark or broken.context_mark
        line = mark.line + 1 if mark else line
        raise ConfigError(f"{name}, line {line}: not YAML: {broken.problem or broken.context}") from None
    except Exception as broken:
        problem = _DEEP if isinstance(broken, RecursionError) else "an escape that stands for no character"
        raise ConfigError(f"{name}, line {line}: not YAML: {problem}") from None
    return root


def _validated(values: Any, model: type[Model], lines: dict[Place, int], name: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as wrong:
        raise _explained(wrong, lines, name, model) from None


def _explained(wrong: ValidationError, lines: dict[Place, int], name: str, model: type[BaseModel]) -> ConfigError:
    problems, hints = [], []
    errors = wrong.errors(include_input=False, include_url=False)
    for error in errors[:MAX_PROBLEMS]:
        place = _in_the_file(error["loc"], lines)
        key = _shown(place)
        cause = error.get("ctx", {}).get("error")
        what = _message(error["type"], error["msg"], cause)
        if error["type"] == "union_tag_invalid":
            context = error["ctx"]
            kinds = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            key, what = f"{key}.kind", f"none of {', '.join(kinds)}{did_you_mean(context['tag'], kinds)}"
        if error["type"] == "extra_forbidden":
            what += did_you_mean(str(place[-1]), _keys(model, error["loc"][:-1]))
        problems.append(f"{name}, line {_line(place, lines)}: {key}: {what}")
        if error["type"] == "extra_forbidden" and place[-1] in _SECRETS:
            hints.append(f"a secret never stands in this file; put it in one of its own, named by {place[-1]}_file")
    if len(errors) > MAX_PROBLEMS:
        problems.append(f"and {len(errors) - MAX_PROBLEMS} more")
    return ConfigError("; ".join(problems), hint="; ".join(dict.fromkeys(hints)))


def _keys(model: type[BaseModel], place: Place) -> set[str]:
    """The keys that `model` has at `place`, in which pydantic names the tags of unions too."""
    here = {model}
    for part in place:
        below = {m for parent in here if part in parent.model_fields for m in _models(parent.model_fields[str(part)])}
        tagged = {m for m in here if (kind := m.model_fields.get("kind")) and kind.default == part}
        here = below or tagged or here
    return {field.alias or name for m in here for name, field in m.model_fields.items()}


def _models(field: FieldInfo) -> set[type[BaseModel]]:
    """The models that stand in the annotation of a field, however deep in lists and unions."""
    found, todo = set(), [field.annotation]
    while todo:
        annotation = todo.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.add(annotation)
        todo.extend(get_args(annotation))
    return found


def _shown(place: Place) -> str:
    """A key with its parents, as an error shows it: on one line, and no longer than is useful."""
    return _text(".".join(str(part) for part in place)) or "the file"


def _text(key: str) -> str:
    shown = key if key.isprintable() else ascii(key)[1:-1]
    return shown if len(shown) <= MAX_KEY else shown[:MAX_KEY] + "..."


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
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "must have keys of its own"
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
        self._lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if node.tag not in _COLLECTIONS:
            raise self._wrong(node, place, "not YAML as it is read here: a tag")
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(node, place))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*place, n)) for n, child in enumerate(node.value)]
        raise self._wrong(node, place, "neither a value nor a collection")

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        """The value of text without a tag, or with a standard one that fits."""
        if node.tag not in _SCALARS:
            raise self._wrong(node, place, "not YAML as it is read here: a tag or a merge key")
        kind = node.tag.removeprefix(_STANDARD)
        try:
            value = self._loader.construct_object(node)
        except Exception:  # of each constructor another one: see `parse`
            raise self._wrong(node, place, f"cannot be read as YAML's {kind}; put quotes around text") from None
        if isinstance(value, int) and abs(value) >= MAX_INTEGER:
            raise self._wrong(node, place, f"cannot be read as YAML's {kind}: the number is too large")
        return value

    def _wrong(self, node: yaml.Node, place: Place, problem: str) -> ConfigError:
        return ConfigError(f"{self._name}, line {node.start_mark.line + 1}: {_shown(place)}: {problem}")

    def _items(self, node: yaml.MappingNode, place: Place) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = self._scalar(key_node, place) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise ConfigError(f"{self._name}, line {line}: a key must be text")
            if key in seen:
                raise ConfigError(f"{self._name}, line {line}: {_text(key)!r} stands here twice")
            seen.add(key)
            here = (*place, key)
            self._lines[here] = line
            yield key, self._value(value_node, here)
