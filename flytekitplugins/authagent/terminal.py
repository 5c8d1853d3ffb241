"""The person at the terminal: what is said to them, and the browser that opens for them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

MAX_LINE = 65536
"""Bytes that are taken of what somebody types."""


@dataclass(frozen=True)
class Terminal:
    """
    Where a person can be asked to log in.

    `say` shows them a line, `open` takes them to an address and says whether it could, `ask` gives the line that
    they type, or `None` where nobody can. `missing` is why nobody can be asked where `is_there` is false. Tests, and
    programs with a window of their own, bring others.
    """

    say: Callable[[str], None]
    open: Callable[[str], bool]
    ask: Callable[[], str | None]
    is_there: bool = True
    missing: str = "there is no terminal"


def here() -> Terminal:
    """
    The terminal of this process, where its standard error is one: a person reads there what to do.

    A login needs no standard input. Where that is a pipe or a file, no answer is read from it.
    """
    missing = "standard error is not a terminal" if at_terminal() else "there is no terminal"
    return Terminal(_say, _open, _ask, _is_terminal(sys.stderr), missing)


def at_terminal() -> bool:
    """Whether any standard stream is a terminal: a person started this process, whatever they redirected."""
    return any(map(_is_terminal, (sys.stdin, sys.stdout, sys.stderr)))


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _ask() -> str | None:
    """
    A line, past Python's own buffer: a thread that waits in it would not let the process end.

    Nothing is read from a pipe, whose content is for another program, nor in the background, where the kernel would
    stop the process.
    """
    try:
        if not sys.stdin.isatty() or _in_background(sys.stdin.fileno()):
            return None
        return os.read(sys.stdin.fileno(), MAX_LINE).decode(errors="replace") or None
    except (AttributeError, OSError, ValueError):  # there is no standard input, or it is closed
        return None


def _in_background(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # it is not the terminal that controls this process, so it stops nobody
        return False


def _open(url: str) -> bool:
    """Open a window of a browser; one that would take over the terminal is not one."""
    if sys.platform.startswith("linux") and not any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))):
        return False
    import webbrowser

    opened: list[bool] = []

    def open_it() -> None:
        try:
            opened.append(webbrowser.open(url, new=1))
        except (webbrowser.Error, OSError):
            opened.append(False)

    # A browser that is not running yet may keep the call until it is closed.
    opening = threading.Thread(target=open_it, name="authagent-browser", daemon=True)
    opening.start()
    opening.join(5.0)
    return opened != [False]


def qr_code(text: str) -> str:
    """`text` as a QR code of block characters, for a phone's camera."""
    import io

    import segno

    drawn = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(drawn, compact=True, border=2)
    return drawn.getvalue().rstrip("\n")
