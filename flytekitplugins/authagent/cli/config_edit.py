"""Setting keys of `admin:` in Flyte's configuration file, with every other line of it left as it is."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from flytekitplugins.authagent import trust, yaml_file
from flytekitplugins.authagent.errors import ConfigError

MAX_BACKUPS = 100

ELSE = 'edit it yourself, or use `eval "$(authagent env)"`'


@dataclass(frozen=True)
class ConfigEdit:
    """What `path` holds, and what it is to hold. `old` is `None` where there is no such file."""

    path: Path
    old: str | None
    new: str

    @property
    def diff(self) -> str:
        """The lines that change, as `diff -u` has them; empty where none does."""
        old = (self.old or "").splitlines(keepends=True)
        lines = difflib.unified_diff(old, self.new.splitlines(keepends=True), str(self.path), str(self.path), n=1)
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)

    def write(self) -> Path | None:
        """
        Replace the file as a whole; the copy that was made of the old one, if there was one.

        Raises `ConfigError` where it changed meanwhile, or cannot be written.
        """
        if _content(self.path) != self.old:
            raise ConfigError(f"{self.path} has changed meanwhile", hint="start again")
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            mode = self.path.stat().st_mode & 0o777 if self.old is not None else 0o600
            backup = _created(_backups(self.path), self.old, mode) if self.old is not None else None
            new = _created([self.path.with_name(f"{self.path.name}.{os.getpid()}.new")], self.new, mode)
            new.replace(self.path)
        except OSError as failed:
            raise ConfigError(f"{self.path} cannot be written: {failed.strerror}", hint=ELSE) from None
        return backup


def edit(path: Path, values: Mapping[str, str | bool]) -> ConfigEdit:
    """
    What sets `values` below `admin:` in the file at `path`.

    Raises `ConfigError` for a file that is not ours to write, or whose YAML cannot be edited line by line.
    """
    old = _content(path)
    try:
        new = _with(old or "", values)
        before = yaml.safe_load(old or "") or {}
        is_safe = yaml.safe_load(new) == {**before, "admin": {**(before.get("admin") or {}), **values}}
    except Exception:  # PyYAML's constructors raise whatever they meet
        is_safe = False
    if not is_safe:
        raise ConfigError(f"{path} is written in a way that cannot be edited safely", hint=ELSE)
    return ConfigEdit(path, old, new)


class _NotSafe(Exception):
    """The text has something that editing it line by line could break."""


def _content(path: Path) -> str | None:
    if path.is_symlink():
        raise ConfigError(f"{path} is a symbolic link", hint=ELSE)
    try:
        text = trust.read(path, secret=False, limit=yaml_file.MAX_FILE).decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} is not a file of text", hint=ELSE) from None
    if path.stat().st_uid != os.geteuid():
        raise ConfigError(f"{path} belongs to another user", hint=ELSE)
    return text


def _with(text: str, values: Mapping[str, str | bool]) -> str:
    aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))
    if aliases or "\r" in text or "\t" in text:
        raise _NotSafe
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    text += "" if not text or text.endswith("\n") else "\n"
    if root is None:
        return text + "admin:\n" + "".join(_line(2, key, value) for key, value in values.items())
    admin = _value(root, "admin")
    if admin is None and isinstance(root, yaml.MappingNode) and not root.flow_style and root.start_mark.column == 0:
        return text + "admin:\n" + "".join(_line(2, key, value) for key, value in values.items())
    if not isinstance(admin, yaml.MappingNode) or admin.flow_style or not admin.value:
        raise _NotSafe
    first: yaml.Node = admin.value[0][0]
    for key, value in values.items():
        there = _value(admin, key)
        if there is None:
            at, column = first.start_mark.index, first.start_mark.column
            text = text[:at] + _line(column, key, value).lstrip() + " " * column + text[at:]
        elif isinstance(there, yaml.ScalarNode) and there.start_mark.line == there.end_mark.line:
            text = text[: there.start_mark.index] + _scalar(value) + text[there.end_mark.index :]
        else:
            raise _NotSafe
        admin = _value(yaml.compose(text, Loader=yaml.SafeLoader), "admin")  # the marks have moved
        if not isinstance(admin, yaml.MappingNode):
            raise _NotSafe
    return text


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _line(column: int, key: str, value: str | bool) -> str:
    return f"{' ' * column}{key}: {_scalar(value)}\n"


def _scalar(value: str | bool) -> str:
    return yaml.safe_dump(value, width=1 << 20).removesuffix("\n").removesuffix("\n...")


def _backups(path: Path) -> list[Path]:
    return [path.with_name(f"{path.name}.bak{n or ''}") for n in range(MAX_BACKUPS)]


def _created(candidates: list[Path], text: str, mode: int) -> Path:
    """A new file with `text` at the first of `candidates` that is not there yet."""
    for path in candidates:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except FileExistsError:
            continue
        with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor has no Path
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        return path
    raise FileExistsError(17, "a file is in the way", str(candidates[-1]))
