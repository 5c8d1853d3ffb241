"""A port that a process is told before it listens."""

from __future__ import annotations

import socket

from flytekitplugins.authagent.sandbox.port import HANDED_OUT, free_port


def test_it_is_none_that_somebody_could_get_without_asking_for_it() -> None:
    first, last = map(int, HANDED_OUT.read_text().split())
    for port in {free_port() for _ in range(50)}:
        assert 1024 <= port < first or port > last
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_one_that_somebody_listens_on_is_not_given_again() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        assert taken.getsockname()[1] not in {free_port() for _ in range(2000)}
