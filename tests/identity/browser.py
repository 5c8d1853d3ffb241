"""
Headless Chromium that logs in at a provider's real pages, as a person would.

It reaches loopback and nothing else: pages may name fonts and scripts of other hosts, whose names it does not look up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from identity_provider import User
from peer_process import program, running
from webdriver import PageMovedOn, WebDriver, WebDriverError

from flytekitplugins.authagent.sandbox.port import free_port

FLAGS = [
    "--headless=new",
    "--no-sandbox",  # its own sandbox does not work for root
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--window-size=800,900",
]

NAME = "input[name=username], input[name=login]"
PASSWORD = "input[name=password]"
LOG_IN = "#kc-login, form button[type=submit]"
ALLOW = "input[name=accept], button[name=accept], button[type=submit]:not([name=abort])"
DENY = "input[name=cancel], button[name=cancel], button[name=abort], a[href$='/abort']"

NEXT_PAGE_SECONDS = 10.0

SETTLED_SECONDS = 0.4
"""A page that stays as it is for this long is not about to submit itself."""


class Browser:
    """A window with no history, no cookies and no cache."""

    def __init__(self, driver: WebDriver, directory: Path) -> None:
        self.driver = driver
        self._directory = directory

    def approve(self, url: str, user: User, *, redirect: str = "", deny: bool = False, seconds: float = 60.0) -> str:
        """
        Go to `url`, log in as `user` and consent, until there is nothing more to press.

        Returns the URL that the browser ended at once that begins with `redirect`, else the text of the last page.
        `deny`: log in, and then say no. A refused password is a PermissionError, too long a TimeoutError; whatever goes
        wrong leaves a screenshot, failed.png, in the browser's directory.
        """
        try:
            self._open(url, redirect)
            visit = Visit(self.driver, user, deny)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if redirect and self.driver.url().startswith(redirect):
                    return self.driver.url()
                with contextlib.suppress(PageMovedOn):
                    if (last := visit.step()) is not None:
                        return last
        except Exception:
            self.photograph("failed")
            raise
        self.photograph("failed")
        raise TimeoutError(f"no end of pages; the last one was {self.driver.url().partition('?')[0]}")

    def photograph(self, name: str) -> Path:
        """A screenshot of the window, in the browser's directory."""
        file = self._directory / f"{name}.png"
        file.write_bytes(self.driver.screenshot())
        return file

    def _open(self, url: str, redirect: str) -> None:
        """A provider that knows the user already may send the browser on at once, to where nobody listens."""
        try:
            self.driver.go(url)
        except WebDriverError:
            if not redirect or not self.driver.url().startswith(redirect):
                raise


class Visit:
    """What `user` does at the pages of one approval, a page at a time."""

    def __init__(self, driver: WebDriver, user: User, deny: bool) -> None:
        self._driver, self._user, self._deny = driver, user, deny
        self._logged_in = self._denied = False

    def step(self) -> str | None:
        """Do what this page asks for; its text, if it is the last one. PageMovedOn: ask again."""
        if name := self._driver.find(NAME):
            if self._logged_in:
                raise PermissionError(f"the password of {self._user.name} was refused")
            self._log_in(name)
        elif self._deny and not self._denied and (no := self._driver.find(DENY)):
            self._denied = True
            self._press(no)
        elif not self._denied and (yes := self._driver.find(ALLOW)):
            self._press(yes)
        else:
            return self._last()
        return None

    def _log_in(self, name: str) -> None:
        self._driver.write(name, self._user.name)
        password, button = self._driver.find(PASSWORD), self._driver.find(LOG_IN)
        assert password, "a page that asks for a name alone"
        assert button, "a page with nothing to press"
        self._driver.write(password, self._user.password)
        self._logged_in = True
        self._press(button)

    def _press(self, button: str) -> None:
        """Click, and wait for the next page: a form may be sent a moment after its button was pressed."""
        self._driver.click(button)
        deadline = time.monotonic() + NEXT_PAGE_SECONDS
        while time.monotonic() < deadline:
            if not self._driver.has(button):
                return
            time.sleep(0.02)

    def _last(self) -> str | None:
        """The page's text, if it stays: some pages submit themselves."""
        before = self._driver.url(), self._driver.text()
        time.sleep(SETTLED_SECONDS)
        return before[1] if before == (self._driver.url(), self._driver.text()) else None


@contextlib.contextmanager
def browser(directory: Path, **options: Any) -> Iterator[Browser]:
    """
    A browser of its own, which has `directory` for its profile, its log and its screenshots.

    `options` are further ones of ChromeDriver, such as `prefs` and `mobileEmulation`.
    """
    chromium, driver = program("chromium", "Chromium"), program("chromedriver", "ChromeDriver")
    profile = directory / "profile"
    profile.mkdir()
    options |= {"binary": chromium, "args": [*FLAGS, f"--user-data-dir={profile}"]}
    port = free_port()
    try:
        with running([driver, f"--port={port}", "--allowed-ips=127.0.0.1"], directory) as process:
            process.until(process.answers(f"http://127.0.0.1:{port}/status"), seconds=30)
            session = WebDriver(f"http://127.0.0.1:{port}", {"browserName": "chrome", "goog:chromeOptions": options})
            try:
                yield Browser(session, directory)
            finally:
                with contextlib.suppress(WebDriverError, OSError):
                    session.quit()
    finally:
        _end(profile, seconds=5.0)


def _end(profile: Path, *, seconds: float) -> None:
    """Wait until nobody has `profile` on its command line: ChromeDriver does not wait for all of Chromium."""
    deadline = time.monotonic() + seconds
    while (pids := _with_argument(str(profile))) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _with_argument(text: str) -> list[int]:
    """The processes that have `text` on their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in file.read_bytes():
                found.append(int(file.parent.name))
    return found
