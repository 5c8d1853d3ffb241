"""Where a browser comes back to: which answers it takes, and from whom."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
from running_provider import send

from flytekitplugins.authagent.callback import Callback, page
from flytekitplugins.authagent.errors import ConfigError, ProviderUnavailable

ANSWER = "http://127.0.0.1/callback"


def test_nothing_is_an_answer_until_somebody_says_which() -> None:
    with Callback(ANSWER) as callback:
        assert send("GET", f"{callback.redirect_uri}?code=c&state=s").status == 400
        with pytest.raises(FutureTimeoutError):
            callback.wait(0)


def test_the_first_answer_counts_and_its_page_is_sent_before_the_end() -> None:
    pages: list[bytes] = []

    def visit(url: str) -> None:
        pages.append(send("GET", url).body)

    with Callback(ANSWER, lambda query: "code" in query) as callback:
        threads = [threading.Thread(target=visit, args=(f"{callback.redirect_uri}?code={n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        assert callback.wait(10)["code"] in "0123"
        while len(callback._pages) < 4:
            threading.Event().wait(0.01)
    for thread in threads:
        thread.join(10)
    assert [b"You are logged in" in content for content in pages] == [True] * 4


def test_what_goes_wrong_is_told_to_who_looks_at_the_page() -> None:
    pages: list[bytes] = []
    with pytest.raises(ValueError, match="broken"), Callback(ANSWER, lambda query: True) as callback:
        url = f"{callback.redirect_uri}?code=1"
        thread = threading.Thread(target=lambda: pages.append(send("GET", url).body))
        thread.start()
        callback.wait(10)
        callback.tell("<script>alert(1)</script>")
        raise ValueError("broken")
    thread.join(10)
    assert b"did not succeed" in pages[0]
    assert b"<script>" not in pages[0]


def test_connections_that_say_nothing_keep_nobody_out() -> None:
    with Callback(ANSWER, lambda query: True) as callback:
        port = int(callback.redirect_uri.split(":")[2].partition("/")[0])
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        callback.tell(None)
        assert send("GET", f"{callback.redirect_uri}?code=1").status == 200
        for connection in idle:
            connection.close()


def test_a_port_that_is_busy_for_a_moment_is_waited_for_and_then_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        threading.Timer(0.5, busy.close).start()
        with Callback(f"http://127.0.0.1:{port}/callback") as callback:
            assert callback.redirect_uri == f"http://127.0.0.1:{port}/callback"
    with (
        socket.create_server(("127.0.0.1", 0)) as busy,
        pytest.raises(ProviderUnavailable, match=r"port \d+, where the login comes back to, is in use"),
    ):
        Callback(f"http://127.0.0.1:{busy.getsockname()[1]}/callback")


@pytest.mark.parametrize(
    "redirect_uri",
    ["https://127.0.0.1/c", "http://example.com/c", "http://127.0.0.1:99999/c", "myapp://callback", "http://0.0.0.0/c"],
)
def test_only_loopback_is_come_back_to(redirect_uri: str) -> None:
    with pytest.raises(ConfigError, match="cannot come back to"):
        Callback(redirect_uri)


def test_the_page_shows_what_it_is_told_as_text() -> None:
    assert "<b>" not in page("<b>", "<b>&\"'")
