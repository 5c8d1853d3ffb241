"""The hub's pages in a real browser, which holds them to the policy that they send, and may have no scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import running_hub
from browser import Browser, browser
from consenting import asked
from hub_fixtures import shared_world, world  # noqa: F401 - fixtures
from running_hub import Hub, World, says, wait_for
from test_grants import fresh
from webdriver import WebDriverError

from flytekitplugins.authagent.sandbox.exchange import Answer, Call
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

NO_SCRIPTS = {"prefs": {"profile.managed_default_content_settings.javascript": 2}}
PHONE = {"mobileEmulation": {"deviceMetrics": {"width": 360, "height": 640, "pixelRatio": 2.0, "mobile": True}}}


@pytest.fixture
def hub(world: World) -> Iterator[Hub]:  # noqa: F811 - a fixture
    with running_hub.running(world, upstream={"consent": "page"}) as made:
        yield made


def ask(hub: Hub) -> dict[str, Any]:
    execution = hub.world.admin.launch(fresh(), "alice")
    return asked(hub, hub.world.token("alice"), execution)


def press(window: Browser, css: str) -> None:
    """Click, once it is there; a page that comes by itself may take the place of what was found."""

    def pressed() -> bool:
        try:
            found = window.driver.find(css)
            if found:
                window.driver.click(found)
        except WebDriverError:
            return False
        return found is not None

    wait_for(pressed)


def shows(window: Browser, words: str) -> str:
    """The text of the page, once it has `words`."""

    def text() -> str:
        try:
            found = window.driver.text()
        except WebDriverError:
            return ""
        return found if words in found else ""

    return str(wait_for(text))


@pytest.mark.parametrize("options", [NO_SCRIPTS, PHONE, {}], ids=["no scripts", "phone", "usual"])
def test_somebody_allows_it_and_signs_in(hub: Hub, world: World, tmp_path: Path, options: dict[str, Any]) -> None:  # noqa: F811
    grant = ask(hub)
    with browser(tmp_path, **options) as window:
        window.driver.go(grant["consent_uri"])
        text = shows(window, "Let this execution act for you?")
        window.photograph("question")
        assert "alice, so Flyte says" in text
        assert grant["execution"] in text.replace("\n", "")
        press(window, "button[value=allow]")
        shows(window, "asks to act for you")  # the provider's page: the hub's own in between goes on by itself
        assert window.driver.url().startswith(world.provider.issuer.issuer)
        press(window, "button[value=allow]")
        shows(window, "You can close this window")
        window.photograph("done")
    found = hub.get(f"/grants/{grant['id']}", world.token("alice")).json()
    assert found["status"] == "active"
    assert says(hub.ask(world.pod_of(grant["execution"])))["sub"] == "alice"
    assert (world.of_hub("sign_ins"), world.of_hub("codes")) == (1, 1)


@pytest.mark.parametrize("where", ["on the hub's page", "at the provider", "by signing in as somebody else"])
def test_somebody_does_not(hub: Hub, world: World, tmp_path: Path, where: str) -> None:  # noqa: F811 - a fixture
    grant = ask(hub)
    with browser(tmp_path, **NO_SCRIPTS) as window:
        window.driver.go(grant["consent_uri"])
        press(window, "button[value=deny]" if where == "on the hub's page" else "button[value=allow]")
        if where != "on the hub's page":
            shows(window, "asks to act for you")
        if where == "at the provider":
            press(window, "button[value=deny]")
        elif where.startswith("by"):
            press(window, "input[value=bob]")
            press(window, "button[value=allow]")
        shows(window, "Somebody else signed in" if where.startswith("by") else "Not allowed")
    found = hub.get(f"/grants/{grant['id']}", world.token("alice")).json()
    assert found["status"] == ("pending" if where.startswith("by") else "ended")
    wait_for(lambda: world.of_hub("revocations") == world.of_hub("codes") == int(where.startswith("by")))


def evil(link: str) -> LoopbackServer:
    """Another site, on the same machine: it frames the page, and has a form of its own for it."""

    def answer(call: Call) -> Answer:
        body = f'<title>Evil</title><p>Evil</p><iframe src="{link}"></iframe>'
        if call.path == "/form":
            fields = '<input type="hidden" name="decision" value="allow"><input type="hidden" name="proof" value="x">'
            body = f'<title>Evil</title><form method="post" action="{link}">{fields}<button>Win</button></form>'
        return Answer(200, body.encode(), (("Content-Type", "text/html"),))

    return LoopbackServer("evil", answer)


def test_no_other_page_frames_it_or_answers_it(hub: Hub, world: World, tmp_path: Path) -> None:  # noqa: F811 - a fixture
    grant = ask(hub)
    site = evil(grant["consent_uri"])
    site.start()
    try:
        with browser(tmp_path) as window:
            window.driver.go(grant["consent_uri"])  # the cookie is there
            shows(window, "Let this execution act for you?")
            window.driver.go(f"{site.url}/frame")
            shows(window, "Evil")
            time.sleep(1)
            assert "Let this execution" not in window.driver.frame_text("iframe")
            window.driver.go(f"{site.url.replace('127.0.0.1', 'localhost')}/form")
            press(window, "button")
            shows(window, "Not from this page")
    finally:
        site.stop()
    assert hub.get(f"/grants/{grant['id']}", world.token("alice")).json()["status"] == "pending"
    assert world.of_hub("codes") == 0
