"""Twenty expiries, and no expired token is sent: neither by the agent's clients nor by one that mints itself."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import pytest
from flytekit.configuration import Config, PlatformConfig
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent.sandbox import environment
from flytekitplugins.authagent.sandbox.posture import Posture
from flytekitplugins.authagent.sandbox.sandbox import Sandbox

LIFETIME = 2
EXPIRIES = 20


@pytest.mark.timeout(150)
def test_no_expired_token_is_sent_over_twenty_expiries(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory:
        sandbox = Sandbox(Path(directory), Posture(), token_lifetime=LIFETIME)
        try:
            sandbox.start()
            for name, value in environment.of_client(sandbox.control_plane.endpoint, sandbox.agent.socket).items():
                monkeypatch.setenv(name, value)
            platform = PlatformConfig(endpoint=sandbox.control_plane.endpoint, insecure=True, auth_mode="authagent")
            remote = FlyteRemote(Config(platform=platform))
            calls, end = 0, time.monotonic() + LIFETIME * EXPIRIES
            while time.monotonic() < end:
                remote.list_projects()
                calls += 1
                time.sleep(0.02)
            counts = sandbox.counts.snapshot()
        finally:
            sandbox.stop()

    assert counts["expired_tokens"] == 0
    assert counts["rpcs"]["ListProjects"] == {"accepted": calls, "rejected": 0}
    # At least one token an expiry; and no flood of them, however short they are.
    assert EXPIRIES <= counts["mints"]["flyte-agent"] <= 4 * EXPIRIES
