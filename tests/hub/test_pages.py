"""The hub's pages: what they say, what they hold off, and how they look in a real browser."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import PATH, Chromium, chromium
from hypothesis import given
from hypothesis import strategies as st
from peers import need

from flytekitplugins.authagent.agent.http import Answer
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.hub import pages
from flytekitplugins.authagent.hub.pages import Question

NOW = 1_784_000_000.0
PROVIDER = "https://idp.example.com"
EXECUTION = "flytesnacks:development:f3ab09c17d5e4b6a8c2d1f90"
QUESTION = Question(
    execution=EXECUTION,
    subject="alice",
    scopes=("all",),
    expires_at=NOW + 8 * 3600,
    flyte="flyte.example.com",
    launched_by=None,
    outlives=900.0,
)
LONG = Question(
    execution=f"{'a' * 63}:{'b' * 63}:{'c' * 63}",
    subject="auth0|" + "9" * 300,
    scopes=("all", "d" * 200, "projects.read"),
    expires_at=NOW + 8 * 3600,
    flyte="e" * 63 + ".example.com",
    launched_by="f" * 200,
    outlives=None,
)


def ask(question: Question = QUESTION, *, secure: bool = True, set_cookie: str | None = None) -> Answer:
    return pages.consent(question, "the-proof", sign_in_origin=PROVIDER, now=NOW, secure=secure, set_cookie=set_cookie)


def every_page(*, secure: bool = True) -> dict[str, Answer]:
    return {
        "consent": ask(secure=secure),
        "onward": pages.onward(f"{PROVIDER}/authorize?a=1&b=2", secure=secure),
        "done": pages.done(EXECUTION, expires_at=NOW + 60, now=NOW, secure=secure),
        "declined": pages.declined(EXECUTION, secure=secure),
        "problem": pages.problem(403, "Somebody else signed in", "You are {}, not {}.", "bob", "alice", secure=secure),
    }


class Read(HTMLParser):
    """A page as a browser takes it: its elements with their attributes, and its text beside the style."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.pieces: list[str] = []
        self.names: list[str] = []
        self.styles: list[str] = []
        self._inside: list[str] = []
        self.feed(answer.body.decode())
        self.close()

    @property
    def text(self) -> str:
        """What can be read, with single spaces."""
        return " ".join("".join(self.pieces).split())

    def tags(self, name: str) -> list[dict[str, str | None]]:
        return [dict(attributes) for tag, attributes in self.elements if tag == name]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        if tag not in ("meta", "input", "br", "wbr", "path", "circle"):
            self._inside.append(tag)
        if tag == "bdi":
            self.names.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "circle"):
            assert self._inside.pop() == tag, "elements that do not nest"

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] == ["style"]:
            self.styles.append(data)
            return
        self.pieces.append(data)
        if "bdi" in self._inside:
            self.names[-1] += data


def headers(answer: Answer) -> dict[str, str]:
    lines = answer.headers.decode().split("\r\n")
    assert lines.pop() == ""
    found = dict(line.split(": ", 1) for line in lines)
    assert len(found) == len(lines), "a header twice"
    return found


def cleaned(text: str) -> str:
    """What must be left of a name, said in another way than the page does it."""
    cut = text if len(text) <= 256 else text[:256] + "\u2026"
    return "".join("\ufffd" if not c.isprintable() or c in pages.INVISIBLE else c for c in cut)


def test_the_question_says_what_is_granted_to_which_execution_by_whom_and_until_when() -> None:
    page = Read(ask())

    assert page.text.startswith("Let this execution act for you? \u2013 authagent authagent Let this execution act for")
    for words in (
        f"Execution{EXECUTION}",
        "In Flyte atflyte.example.com",
        "Asked for byalice",
        "Launched byNobody yet, so Flyte says",
        "It mayDo everything that you can do in Flyte",
        "UntilTuesday 14 July 2026, 11:33 UTC (in 8 hours),or until the execution ends, if that is sooner",
        "Allow this only if you started it yourself, just now.",
        "If you allow it, you sign in at idp.example.com next, as alice.",
        "Tokens that it gave out before then work for up to 15 minutes more",
        f"authagent revoke {EXECUTION}",
    ):
        assert words in page.text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"launched_by": "bob"}, "Launched bybob, so Flyte says"),
        ({"launched_by": ""}, "Launched bySomebody whom Flyte does not name"),
        ({"flyte_is_silent": True}, "Launched byThat is not known: Flyte could not be asked"),
        ({"scopes": ("read", "write")}, "It mayUse read, write"),
        ({"scopes": ("all", "read")}, "It mayDo everything that you can do in FlyteAlso use read"),
        ({"scopes": ()}, "It mayDo what Flyte lets everybody do who signs in"),
        ({"outlives": None}, "Tokens that it gave out before then work until they run out"),
        ({"outlives": 3600.0}, "for up to 1 hour more"),
        ({"expires_at": NOW - 1}, "UTC (now over)"),
        ({"expires_at": NOW + 1}, "UTC (in 1 minute)"),
        ({"expires_at": NOW + 8 * 3600 - 3}, "UTC (in 8 hours)"),
        ({"expires_at": NOW + 90 * 60}, "UTC (in 1 hour and 30 minutes)"),
        ({"expires_at": NOW + 86400 + 1800}, "UTC (in 1 day and 30 minutes)"),
        ({"expires_at": NOW + 2 * 86400 + 3600 + 60}, "UTC (in 2 days and 1 hour)"),
    ],
)
def test_the_question_says_it_in_words(changed: dict[str, object], words: str) -> None:
    assert words in Read(ask(replace(QUESTION, **changed))).text  # type: ignore[arg-type]


def test_the_form_brings_back_the_proof_and_one_of_two_decisions() -> None:
    page = Read(ask())

    (form,) = page.tags("form")
    assert form == {"method": "post", "autocomplete": "off"}, "it comes back to the page's own address"
    assert page.tags("input") == [{"type": "hidden", "name": "proof", "value": "the-proof"}]
    assert [(button["name"], button["value"]) for button in page.tags("button")] == [
        ("decision", "allow"),
        ("decision", "deny"),
    ]


def test_a_new_browser_gets_its_cookie_with_the_question() -> None:
    assert headers(ask(set_cookie="a=b; Path=/"))["Set-Cookie"] == "a=b; Path=/"
    assert "Set-Cookie" not in headers(ask())


def test_what_came_of_it() -> None:
    done = Read(pages.done(EXECUTION, expires_at=NOW + 3600, now=NOW, secure=True))
    declined = Read(pages.declined(EXECUTION, secure=True))

    assert f"The execution {EXECUTION} may act for you until Tuesday 14 July 2026, 04:33 UTC (in 1 hour)" in done.text
    assert f"authagent revoke {EXECUTION}" in done.text
    assert f"The execution {EXECUTION} may not act for you. Nothing was given to it." in declined.text


def test_a_problem_has_the_callers_status_title_and_words() -> None:
    answer = pages.problem(403, "A < B", "You signed in as {}; {} asked. <b>", "<i>bob</i>", "al\u202eice", secure=True)

    assert answer.status == 403
    page = Read(answer)
    assert "A < B \u2013 authagent authagent A < B You signed in as <i>bob</i>; al\ufffdice asked. <b>" in page.text
    assert page.names == ["<i>bob</i>", "al\ufffdice"]
    assert {"b", "i"}.isdisjoint(tag for tag, _ in page.elements)


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b", "c")])
def test_names_too_few_or_too_many_are_no_error(names: tuple[str, ...]) -> None:
    assert "1" in Read(pages.problem(400, "No", "1 {} 2 {} 3 {broken", *names, secure=True)).text


def test_the_way_to_the_sign_in_is_by_itself_and_by_a_link() -> None:
    page = Read(pages.onward(f"{PROVIDER}/authorize?a=1&b=%22<", secure=True))

    assert {"http-equiv": "refresh", "content": f"0; url={PROVIDER}/authorize?a=1&b=%22<"} in page.tags("meta")
    assert page.tags("a") == [{"class": "button allow", "href": f"{PROVIDER}/authorize?a=1&b=%22<"}]
    assert "You are being taken to idp.example.com." in page.text


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://a; script-src *", "https://a\r\nSet-Cookie: b=c"])
def test_no_page_leads_to_what_is_no_website(url: str) -> None:
    with pytest.raises(ConfigError):
        pages.onward(url, secure=True)
    with pytest.raises(ConfigError):
        pages.consent(QUESTION, "", sign_in_origin=url, now=NOW, secure=True)


@given(st.text(max_size=300), st.text(max_size=40), st.text(max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_no_name_is_taken_for_anything_else(execution: str, subject: str, flyte: str, scopes: list[str]) -> None:
    named = [scope for scope in scopes if scope != "all"]
    question = replace(QUESTION, execution=execution, subject=subject, flyte=flyte, scopes=("all", *scopes))
    plain = replace(QUESTION, execution="x", scopes=("all", *("x" for _ in named)))
    page, same = Read(ask(question)), Read(ask(plain))

    assert page.names == [
        *map(cleaned, (execution, flyte, subject, *named)),
        "idp.example.com",
        cleaned(subject),
        "idp.example.com",
    ]
    assert [e for e in page.elements if e[0] != "wbr"] == [e for e in same.elements if e[0] != "wbr"]


ALONE = {"html", "head", "meta", "title", "style", "body", "header", "svg", "path", "main", "h1", "p", "bdi"}
"""The elements of a page that says one thing."""


@given(st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_no_word_of_a_problem_is_taken_for_anything_else(title: str, words: str, names: list[str]) -> None:
    page = Read(pages.problem(400, title, words, *names, secure=True))

    assert {tag for tag, _ in page.elements} <= ALONE
    assert all(c == "\n" or (c.isprintable() and c not in pages.INVISIBLE) for c in "".join(page.pieces))


@pytest.mark.parametrize("name", every_page())
def test_every_page_has_its_structure(name: str) -> None:
    answer = every_page()[name]
    page = Read(answer)

    assert answer.body.startswith(b"<!doctype html>\n")
    assert page.tags("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.tags("meta")
    for landmark in ("title", "header", "main", "h1"):
        assert len(page.tags(landmark)) == 1
    assert answer.content_type == b"text/html; charset=utf-8"
    assert b"Cache-Control: no-store" in answer._replace(status=200).encoded(keep_alive=True)


@pytest.mark.parametrize("name", every_page())
def test_every_page_does_without_scripts_and_without_anything_from_elsewhere(name: str) -> None:
    page = Read(every_page()[name])

    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    attributes = {attribute for _, found in page.elements for attribute, _ in found}
    assert not {a for a in attributes if a.startswith("on") or a in ("style", "src", "action", "formaction")}


@pytest.mark.parametrize("name", every_page())
def test_every_page_allows_its_own_style_and_no_other(name: str) -> None:
    answer = every_page()[name]
    (style,) = Read(answer).styles
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()

    policy = dict(part.split(" ", 1) for part in headers(answer)["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "form-action": f"'self' {PROVIDER}" if name == "consent" else "'self'",
    }


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("name", every_page())
def test_every_page_keeps_others_out(name: str, secure: bool) -> None:
    found = headers(every_page(secure=secure)[name])

    assert found["X-Frame-Options"] == "DENY"
    assert found["X-Content-Type-Options"] == "nosniff"
    assert found["Referrer-Policy"] == "same-origin"
    assert found["Cross-Origin-Opener-Policy"] == "same-origin"
    assert found["Cross-Origin-Resource-Policy"] == "same-origin"
    assert re.fullmatch(r"([a-z-]+=\(\)(, |$))+", found["Permissions-Policy"])
    assert ("Strict-Transport-Security" in found) == secure


@contextmanager
def shown(answers: dict[str, Answer]) -> Iterator[str]:
    """A server that gives each page, whole, to whoever asks for it; and what was posted, as the text of a page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.strip("/"), pages.problem(404, "Nothing", "Nothing here.", secure=False))
            self.wfile.write(answer.encoded(keep_alive=False))

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            told = pages.problem(400, "Posted", "{} from {}", form, self.headers["Origin"], secure=False)
            self.wfile.write(told.encoded(keep_alive=False))

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    need("chromium", PATH)
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as it:
        yield it


def look(browser: Chromium, url: str, *, width: int = 320, scheme: str = "light") -> None:
    """Open a page in a window of that width, whose owner likes it light or dark."""
    screen = {"width": width, "height": 640, "deviceScaleFactor": 1, "mobile": width < 600}
    browser._call("Emulation.setDeviceMetricsOverride", **screen)
    browser._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.open("about:blank")
    browser.wait("location.href == 'about:blank'")
    browser.open(url)
    browser.wait(f"location.href == {url!r} && document.readyState == 'complete'")


CONTRAST = """
(() => {
  const channel = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = e => {
    const back = numbers(getComputedStyle(e).backgroundColor);
    return back.length == 4 && back[3] == 0 && e.parentElement ? behind(e.parentElement) : back;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim()) continue;
    const pair = [light(numbers(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
    found.push([(pair[0] + 0.05) / (pair[1] + 0.05), parseFloat(getComputedStyle(e).fontSize), e.textContent]);
  }
  return found;
})()
"""
"""For every piece of text: its contrast to what is behind it (WCAG 2.2), its size in pixels, and itself."""


@pytest.mark.peer
@pytest.mark.parametrize("width", [320, 1280])
def test_every_page_fits_a_phone_and_is_easy_to_press(browser: Chromium, width: int) -> None:
    answers = every_page(secure=False) | {"long": ask(LONG, secure=False)}
    answers["onward"] = answers["onward"]._replace(body=answers["onward"].body.replace(b'http-equiv="refresh"', b""))
    with shown(answers) as url:
        for name in answers:
            look(browser, f"{url}/{name}", width=width)

            assert browser.evaluate("document.documentElement.scrollWidth") <= width, name
            heights = "[...document.querySelectorAll('button, .button')].map(b => b.getBoundingClientRect().height)"
            assert all(height >= 44 for height in browser.evaluate(heights)), name
            assert len(browser.evaluate(heights)) == {"consent": 2, "long": 2, "onward": 1}.get(name, 0)


@pytest.mark.peer
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read(browser: Chromium, scheme: str) -> None:
    answers = every_page(secure=False)
    answers["onward"] = answers["onward"]._replace(body=answers["onward"].body.replace(b'http-equiv="refresh"', b""))
    backs = set()
    with shown(answers) as url:
        for name in answers:
            look(browser, f"{url}/{name}", scheme=scheme)
            texts = browser.evaluate(CONTRAST)

            assert len(texts) >= 4
            assert not [text for text in texts if text[0] < 4.5], "WCAG AA"
            assert not [text for text in texts if text[1] < 16], "too small"
            backs.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert backs == {"rgb(243, 244, 247)" if scheme == "light" else "rgb(18, 20, 23)"}, "the style is not in force"


@pytest.mark.peer
def test_a_press_brings_back_the_form_with_our_origin(browser: Chromium) -> None:
    with shown({"consent": ask(secure=False)}) as url:
        for decision in ("allow", "deny"):
            look(browser, f"{url}/consent")
            browser.evaluate(f"document.querySelector('button[value={decision}]').click()")
            browser.wait("document.title.startsWith('Posted')")

            told = browser.evaluate("document.querySelector('main p').textContent")
            assert told == f"proof=the-proof&decision={decision} from {url}"


@pytest.mark.peer
def test_the_way_to_the_sign_in_goes_on_to_wherever_the_provider_sends_people(browser: Chromium) -> None:
    there = Answer(200, b"<title>There</title>", b"text/html")
    with shown({"there": there}) as far:
        away = Answer(200, b"", b"text/html", b"Refresh: 0; url=%s/there\r\n" % far.encode())
        with shown({"authorize": away}) as provider:
            onward = pages.onward(f"{provider}/authorize", secure=False)
            with shown({"onward": onward}) as url:
                browser.open(f"{url}/onward")

                assert browser.wait("document.title == 'There'")


@pytest.mark.peer
def test_the_keyboard_shows_where_it_is(browser: Chromium) -> None:
    with shown({"consent": ask(secure=False)}) as url:
        look(browser, f"{url}/consent")
        for kind in ("keyDown", "keyUp"):
            browser._call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

        assert browser.wait("document.activeElement.value") == "allow"
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.peer
def test_a_name_from_right_to_left_leaves_the_words_around_it_alone(browser: Chromium, tmp_path: Path) -> None:
    arabic = "\u0639\u0644\u064a 123"
    with shown({"problem": pages.problem(400, "No", "You are {}, not {}.", arabic, "bob", secure=False)}) as url:
        look(browser, f"{url}/problem", width=1280)

        lefts = browser.evaluate("[...document.querySelectorAll('bdi')].map(b => b.getBoundingClientRect().left)")
        assert lefts == sorted(lefts)
        assert browser.evaluate("getComputedStyle(document.querySelector('bdi')).unicodeBidi") == "isolate"


@pytest.mark.peer
def test_no_other_page_frames_it(browser: Chromium) -> None:
    there = Answer(200, b"<title>There</title>", b"text/html")
    with shown({"consent": ask(secure=False)}) as url, shown({"there": there}) as far:
        look(browser, f"{far}/there")
        for framed, seen in ((f"{far}/there", f"{far}/there"), (f"{url}/consent", "chrome-error://chromewebdata/")):
            browser.evaluate(f"""document.body.innerHTML = '<iframe></iframe>', done = false,
                document.querySelector('iframe').onload = () => {{ done = true }},
                document.querySelector('iframe').src = {framed!r}""")
            browser.wait("window.done")
            assert browser.frames() == [seen]
