"""Files that hold secrets: nobody else can read them at any moment, and nobody reads half of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO


def opened(path: Path) -> BinaryIO:
    """`path`, empty, for writing, with mode 0600 from the start."""
    path.unlink(missing_ok=True)  # what was there may have been wider, or a link
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def write(path: Path, text: str) -> Path:
    """Put `text` into `path` in one step, and return `path`."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    with opened(unfinished) as file:
        file.write(text.encode())
    return unfinished.replace(path)
