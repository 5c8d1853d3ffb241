"""The few commands of WebDriver (W3C) that driving a login page takes."""

from __future__ import annotations

import base64
from typing import Any

import requests

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's reference (section 12.2)."""


class WebDriverError(Exception):
    """What the driver answered instead of a value: `kind` is WebDriver's name of the error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class PageMovedOn(WebDriverError):
    """An element belonged to a page that is not there any more."""


class WebDriver:
    """One session of the driver at `url`; every command has `seconds`."""

    def __init__(self, url: str, capabilities: dict[str, Any], *, seconds: float = 60.0) -> None:
        self._http, self._seconds = requests.Session(), seconds
        self._http.trust_env = False
        self._url = f"{url}/session"
        made = self._command("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self.capabilities: dict[str, Any] = made["capabilities"]
        self._url += f"/{made['sessionId']}"

    def go(self, url: str) -> None:
        self._command("POST", "/url", {"url": url})

    def url(self) -> str:
        """Where the browser is."""
        return str(self._command("GET", "/url"))

    def find(self, css: str) -> str | None:
        """The first element of the page that `css` names."""
        found = self._command("POST", "/elements", {"using": "css selector", "value": css})
        return str(found[0][ELEMENT]) if found else None

    def write(self, element: str, text: str) -> None:
        """Put `text` into a field, in the place of what is there."""
        self._command("POST", f"/element/{element}/clear", {})
        self._command("POST", f"/element/{element}/value", {"text": text})

    def click(self, element: str) -> None:
        self._command("POST", f"/element/{element}/click", {})

    def has(self, element: str) -> bool:
        """Whether the page that `element` was found in is still there."""
        try:
            self._command("GET", f"/element/{element}/name")
        except WebDriverError as error:
            if isinstance(error, PageMovedOn) or error.kind == "no such element":
                return False
            raise
        return True

    def text(self) -> str:
        """What a person can read on the page."""
        body = self.find("body")
        return str(self._command("GET", f"/element/{body}/text")) if body else ""

    def frame_text(self, css: str) -> str:
        """What a person can read in a frame of the page; the driver is back at the page afterwards."""
        frame = self.find(css)
        self._command("POST", "/frame", {"id": {ELEMENT: frame}})
        try:
            return self.text()
        finally:
            self._command("POST", "/frame", {"id": None})

    def screenshot(self) -> bytes:
        """The window, as PNG."""
        return base64.b64decode(self._command("GET", "/screenshot"))

    def quit(self) -> None:
        self._command("DELETE", "")
        self._http.close()

    def _command(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, self._url + path, json=body, timeout=self._seconds).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            message = str(answer.get("message", "")).partition("\n")[0]
            # Chromium has two words for it, the second where the page goes between two of the driver's own steps.
            gone = answer["error"] == "stale element reference" or "does not belong to the document" in message
            raise (PageMovedOn if gone else WebDriverError)(answer["error"], message)
        return answer
