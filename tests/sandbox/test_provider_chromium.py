"""The provider's pages in a real browser, which holds them to the policy that they send."""

from __future__ import annotations

import queue
from urllib.parse import parse_qs

import pytest
from browsing import asking, redeem
from chromium import PATH, chromium
from peers import need
from running_provider import running

from flytekitplugins.authagent.sandbox.exchange import Answer, Call
from flytekitplugins.authagent.sandbox.loopback import LoopbackServer

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]

PRESS = "document.querySelector('button[value=%s]').click() || true"
CHOOSE_BOB = "document.querySelector('input[value=bob]').click() || true"


@pytest.fixture
def browser(tmp_path):
    need("chromium", PATH)
    with chromium(tmp_path / "browser") as it:
        yield it


@pytest.fixture
def client():
    """Where a command-line tool waits for the browser, and what arrived there."""
    arrived: queue.Queue[dict[str, list[str]]] = queue.Queue()

    def answer(call: Call) -> Answer:
        if call.path == "/callback":
            arrived.put(parse_qs(call.query))
        return Answer(200, b"<title>Back</title>Back", (("Content-Type", "text/html"),))

    server = LoopbackServer("client", answer)
    server.start()
    yield f"{server.url}/callback", arrived
    server.stop()


def test_somebody_signs_in_and_somebody_does_not(browser, client):
    where, arrived = client
    with running("external") as provider:
        browser.open(asking(provider, redirect_uri=where))
        browser.wait("document.title == 'Sign in'")
        browser.wait(CHOOSE_BOB)
        browser.wait(PRESS % "allow")
        said = arrived.get(timeout=30)
        token = redeem(provider, said["code"][0], redirect_uri=where).json()
        assert provider.read(token["access_token"]).claims["sub"] == "bob"
        assert (said["state"], said["iss"]) == (["a state"], [provider.issuer.issuer])

        browser.open(asking(provider, redirect_uri=where, state="again"))
        browser.wait("document.title == 'Sign in'")
        browser.wait(PRESS % "deny")
        assert arrived.get(timeout=30) == {
            "error": ["access_denied"],
            "error_description": ["The user said no"],
            "state": ["again"],
            "iss": [provider.issuer.issuer],
        }


def test_somebody_types_in_what_a_device_shows(browser):
    with running("external") as provider:
        device = provider.ask_at("device_authorization_endpoint", {"client_id": "flytectl"}).json()
        browser.open(device["verification_uri"])
        browser.wait("document.title == 'Connect a device'")
        browser.wait(f"document.querySelector('input[name=user_code]').value = '{device['user_code'].lower()}'")
        browser.wait("document.querySelector('button').click() || true")
        browser.wait("document.title == 'Sign in'")
        browser.wait(CHOOSE_BOB)
        browser.wait(PRESS % "allow")
        browser.wait("document.title == 'Done'")
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": "flytectl"}
        token = provider.ask(form | {"device_code": device["device_code"]}).json()

        assert provider.read(token["access_token"]).claims["sub"] == "bob"


def test_no_other_page_frames_it(browser, client):
    where, _ = client
    with running("external") as provider:
        browser.open(where.replace("/callback", "/frame"))
        browser.wait("document.title == 'Back'")
        frame = "document.body.innerHTML = '<iframe id=f></iframe>', document.getElementById('f').src = "
        for url, shown in ((where, where), (asking(provider), "chrome-error://chromewebdata/")):
            done = ", done = 0, document.getElementById('f').onload = () => { done = 1 }"
            browser.evaluate(frame + repr(url) + done)
            browser.wait("window.done")
            assert browser.frames() == [shown]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_a_phone_and_follow_the_colour_scheme(browser, scheme):
    browser.emulate(width=360, scheme=scheme)
    with running("external") as provider:
        device = provider.ask_at("device_authorization_endpoint", {"client_id": "flytectl"}).json()
        pages = {
            asking(provider): "Sign in",
            device["verification_uri"]: "Connect a device",
            device["verification_uri_complete"]: "Sign in",
        }
        for url, title in pages.items():
            browser.open(url)
            browser.wait(f"document.title == '{title}'")

            assert browser.evaluate("document.documentElement.scrollWidth") <= 360
            back = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            assert back == {"light": "rgb(243, 244, 247)", "dark": "rgb(18, 20, 23)"}[scheme]
