"""A headless Chromium, driven over its DevTools pipe."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SECONDS = 30.0
"""How long anything may take."""


class Chromium:
    """One page of a browser."""

    def __init__(self, to: int, of: int) -> None:
        self._to, self._of = to, of
        self._number, self._received = 0, b""
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def open(self, url: str) -> None:
        """Go there, as if it was typed in."""
        self._call("Page.navigate", url=url)

    def emulate(self, *, width: int, scheme: str) -> None:
        """Be a screen of so many pixels, for somebody who likes it `light` or `dark`."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=640, deviceScaleFactor=1, mobile=False)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, script: str) -> Any:
        """What a script in the page comes to; `None` while a page is on its way."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True).get("result", {}).get("value")

    def wait(self, script: str) -> Any:
        """Until that comes to something true."""
        deadline = time.monotonic() + SECONDS
        while not (found := self.evaluate(script)):
            assert time.monotonic() < deadline, self.evaluate("location.href + document.body.innerText")
            time.sleep(0.05)
        return found

    def frames(self) -> list[str]:
        """What the page's frames show."""
        tree = self._call("Page.getFrameTree")["frameTree"]
        return [child["frame"]["url"] for child in tree.get("childFrames", [])]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while True:
            while b"\0" in self._received:
                one, _, self._received = self._received.partition(b"\0")
                answer = json.loads(one)
                if answer.get("id") == self._number:
                    return dict(answer.get("result", {}))
            assert select.select([self._of], [], [], max(0, deadline - time.monotonic()))[0], f"no answer to {method}"
            piece = os.read(self._of, 65536)
            assert piece, "it ended"
            self._received += piece


@contextlib.contextmanager
def chromium(directory: Path) -> Iterator[Chromium]:
    """A browser that keeps its files in `directory`, until the end of the block."""
    assert PATH
    (their_end, to), (of, their_other_end) = os.pipe(), os.pipe()
    options = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--no-proxy-server", "--disable-background-networking", "--remote-debugging-pipe",
        f"--user-data-dir={directory}",
    ]  # fmt: skip
    redirected = f'exec "$0" "$@" 3<&{their_end} 4>&{their_other_end}'
    process = subprocess.Popen(
        ["bash", "-c", redirected, PATH, *options],
        pass_fds=(their_end, their_other_end), start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(their_end)
    os.close(their_other_end)
    try:
        yield Chromium(to, of)
    finally:
        os.close(to)
        os.close(of)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
