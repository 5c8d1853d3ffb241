"""A provider that rotates refresh tokens, and a network that loses its answer: one is spent, and the next one gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import running_agent
import running_provider
from running_provider import Running
from scripted_server import _request
from test_upstreams import KEEP_A_LOGIN, TESTS


class Losing:
    """A way to the provider on which the first `lose` answers are lost, after the provider has given them."""

    def __init__(self, provider: Running, lose: int) -> None:
        self.lose, self.lost, self.asked = lose, 0, 0
        self._to = urlsplit(provider.issuer.token_endpoint)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = self._to._replace(netloc=f"127.0.0.1:{self._listening.getsockname()[1]}").geturl()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, socket.create_connection((str(self._to.hostname), int(self._to.port or 0))) as onward:
                self.asked += 1
                onward.sendall(_request(connection))
                answer = onward.recv(65536)
                if self.lost < self.lose:
                    self.lost += 1
                else:
                    connection.sendall(answer)


@pytest.mark.parametrize("posture", ["internal", "external"])
def test_an_answer_that_is_lost_is_one_typed_error_and_asked_for_again(posture: str, tmp_path: Path) -> None:
    """
    Whether the token was spent cannot be known, so it is kept and shown again.

    Flyte's own server takes it again, and all is well. One that takes each token once has ended the login, which only
    the person can begin anew: then the error stays one, and the provider is not asked in a loop.
    """
    with running_provider.running(posture) as provider:
        environ = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join([TESTS, *sys.path])}
        environ["PYTHON_KEYRING_BACKEND"] = "session_servers.HomeKeyring"
        command = [sys.executable, "-c", KEEP_A_LOGIN, provider.issuer.issuer]
        subprocess.run(command, input=provider.issuer.sign_in("alice"), env=environ, text=True, timeout=60, check=True)
        losing = Losing(provider, lose=1)
        spec = {"kind": "keyring", "issuer": provider.issuer.issuer, "client_id": "flytectl", "scopes": ["all"]}
        upstreams = {"flyte": {**spec, "token_endpoint": losing.endpoint}}
        try:
            with running_agent.running(provider, environ=environ, upstreams=upstreams) as agent:
                first = agent.ask()
                time.sleep(1.1)  # a failure answers everybody for a second
                then = [agent.ask() for _ in range(20)]
        finally:
            losing.close()

        assert (first.status, first.json()["error"]) == (503, "temporarily_unavailable")
        assert losing.lost == 1
        if posture == "internal":
            assert {answer.status for answer in then} == {200}
            assert len({answer.json()["access_token"] for answer in then}) == 1
            assert provider.counts.snapshot()["mints"] == {"flytectl": 2}
        else:
            assert len({(answer.status, answer.json()["error"]) for answer in then}) == 1
            assert then[0].status in (400, 500, 503)
            assert provider.counts.snapshot()["mints"] == {"flytectl": 1}
            assert losing.asked <= 3
