"""Somebody who logs in at a provider's real pages, over plain HTTP: forms are read, filled in and posted."""

from __future__ import annotations

import html.parser
from dataclasses import dataclass, field
from urllib.parse import urljoin

import requests
from identity_provider import User

MOST_PAGES = 15

NAMES_OF_NAME = ("username", "login")
ALLOW = ("accept",)
"""Buttons whose name says yes; a form without one says yes by being posted."""
DENY = ("cancel", "abort")


@dataclass
class Form:
    """A form of a page, and where it goes."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, str] = field(default_factory=dict)


class Page(html.parser.HTMLParser):
    """The first form of a page that is posted, and the link that aborts."""

    def __init__(self, text: str, url: str) -> None:
        super().__init__()
        self.form: Form | None = None
        self.abort = ""
        self._url, self._inside = url, False
        self.feed(text)

    def button(self, names: tuple[str, ...]) -> str | None:
        """The first button with one of these names."""
        return next((name for name in names if self.form and name in self.form.buttons), None)

    def denies(self) -> bool:
        """Whether this page can be answered with no; a login page can, but somebody who denies logs in first."""
        asks = self.form and any(name in self.form.fields for name in NAMES_OF_NAME)
        return not asks and bool(self.abort or self.button(DENY))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "form" and not self.form and told.get("method", "").lower() == "post":
            self.form, self._inside = Form(urljoin(self._url, told.get("action", ""))), True
        elif tag == "a" and told.get("href", "").endswith("/abort"):
            self.abort = urljoin(self._url, told["href"])
        elif self.form and tag in ("input", "button") and "name" in told and (self._inside or "form" in told):
            pressed = told.get("type") == "submit" or tag == "button"
            (self.form.buttons if pressed else self.form.fields)[told["name"]] = told.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


class Visitor:
    """
    `user` at a provider's pages, with cookies of their own.

    A browser on loopback takes `Secure` cookies over plain HTTP; so does this.
    """

    def __init__(self, user: User) -> None:
        self.user = user
        self.visited: list[str] = []
        self._logged_in = False
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Accept"] = "text/html"

    def approve(self, url: str, *, redirect: str = "", deny: bool = False) -> str:
        """
        Go to `url`, log in and consent.

        Returns the URL that the provider sends the browser to, once that begins with `redirect`; it is not visited. A
        provider that has no more questions (a device was approved) ends it too: then the text of its last page.
        `deny`: log in, and then say no. A refused password is a PermissionError, more than 15 pages a RuntimeError.
        """
        answer, denied = self._get(url), False
        for _ in range(MOST_PAGES):
            if answer.is_redirect:
                target = urljoin(answer.url, answer.headers["Location"])
                if redirect and target.startswith(redirect):
                    return target
                answer = self._get(target)
                continue
            page = Page(answer.text, answer.url)
            if not page.form or denied:
                return answer.text
            denied = deny and page.denies()
            answer = self._say(page, deny)
        raise RuntimeError(f"no end of pages: {self.visited}")

    def _say(self, page: Page, deny: bool) -> requests.Response:
        form = page.form
        assert form
        said = dict(form.fields)
        asked = next((name for name in NAMES_OF_NAME if name in said), None)
        if asked:
            if self._logged_in:
                raise PermissionError(f"the password of {self.user.name} was refused")
            self._logged_in = True
            said |= {asked: self.user.name, "password": self.user.password}
        elif deny and page.abort:
            return self._get(page.abort)
        elif pressed := page.button(DENY if deny else ALLOW):
            said[pressed] = form.buttons[pressed]
        return self._post(form.action, said)

    def _get(self, url: str) -> requests.Response:
        self.visited.append(url.partition("?")[0])
        return self._answered(self._session.get(url, allow_redirects=False, timeout=20))

    def _post(self, url: str, said: dict[str, str]) -> requests.Response:
        self.visited.append(url.partition("?")[0])
        return self._answered(self._session.post(url, data=said, allow_redirects=False, timeout=20))

    def _answered(self, answer: requests.Response) -> requests.Response:
        for cookie in self._session.cookies:
            cookie.secure = False
        return answer
