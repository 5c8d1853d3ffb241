"""Reading the environment: booleans that are booleans, and whether this is a task's pod."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from flytekitplugins.authagent.errors import ConfigError

_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def boolean(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """
    `1`, `true`, `0` or `false` in any case; unset and empty are `default`.

    Raises `ConfigError` naming the variable for anything else.
    """
    text = environ.get(name, "")
    if not text:
        return default
    try:
        return _BOOLEANS[text.lower()]
    except KeyError:
        raise ConfigError(f"{name} cannot be {text!r}", hint="set it to 1, 0, true or false") from None


def in_pod(environ: Mapping[str, str]) -> bool:
    """Whether Flyte runs this process as a task: propeller sets the execution's name in every pod."""
    return bool(environ.get("FLYTE_INTERNAL_EXECUTION_ID"))


def home(environ: Mapping[str, str]) -> Path:
    """
    The home directory of the user; the one of the user database where `HOME` is not set.

    Raises `ConfigError` for one that is not an absolute path, which would be another one in every working directory,
    and for one that is a file. One that is not there is a home without files, such as that of a system user.
    """
    named = environ.get("HOME")
    try:
        found = Path(named or pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise ConfigError(f"HOME is not set, and uid {os.getuid()} has no home directory", hint="set HOME") from None
    if not found.is_absolute():
        raise ConfigError(f"HOME cannot be {named!r}: it must be an absolute path")
    if os.path.isfile(found):  # noqa: PTH113 - a Path raises where it may not look
        raise ConfigError(f"HOME names {found}, which is not a directory")
    return found
