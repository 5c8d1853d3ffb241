"""Python scripts that are installed as commands, and the interpreter that runs one: `pyflyte` is such a script."""

from __future__ import annotations

import re
import shlex
from pathlib import Path, PurePath

_PYTHON = re.compile(r"(python|pypy)[0-9.]*t?")
_START = 4096  # bytes; the kernel reads 256 of a first line


def interpreter(program: str) -> list[str]:
    """
    The command that runs the script `program`, as its first line says; empty where it is none of Python.

    Installers write `#!/bin/sh` and an `exec` of the interpreter where its path is too long for the kernel.
    """
    try:
        with Path(program).open("rb") as file:
            first, second, *_ = [*file.read(_START).decode().split("\n"), "", ""]
    except (OSError, UnicodeDecodeError):
        return []
    if not first.startswith("#!"):
        return []
    command = first[2:].strip().split(None, 1)  # as the kernel does: one argument at most
    if command == ["/bin/sh"] and second.startswith("'''exec' "):
        command = _executed(second)
    words = " ".join(command).split()
    named = [word for word in words if _PYTHON.fullmatch(PurePath(word).name)]
    return command if words and (named[:1] == words[:1] or (PurePath(words[0]).name == "env" and named)) else []


def _executed(line: str) -> list[str]:
    """`'''exec' "/path of/python" "$0" "$@"`, as sh reads it."""
    try:
        return [word for word in shlex.split(line)[1:] if not word.startswith("$")]
    except ValueError:
        return []
