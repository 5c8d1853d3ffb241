"""The token files of people who signed in earlier."""

from __future__ import annotations

import logging
import threading
import time

import pytest
from running_provider import Running, running

from flytekitplugins.authagent.errors import ProviderError, ProviderUnavailable
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.file import FileProvider
from flytekitplugins.authagent.sandbox.user_session import UserSession

pytestmark = pytest.mark.timeout(60)


def session(provider: Running, directory, user: str = "alice") -> UserSession:
    return UserSession(
        user,
        token_endpoint=provider.issuer.token_endpoint,
        refresh_token=provider.issuer.sign_in(user, spared=True),
        token_file=directory / f"{user}.token",
    )


@pytest.mark.parametrize("posture", ["internal", "external"])
def test_the_file_holds_the_users_token_and_is_for_us_alone(posture, tmp_path):
    with running(posture) as provider:
        alice = session(provider, tmp_path)
        alice.start()
        alice.stop()
        claims = provider.read((tmp_path / "alice.token").read_text()).claims

        assert claims["sub"] == "alice"
        assert (tmp_path / "alice.token").stat().st_mode & 0o777 == 0o600
        assert [path.name for path in tmp_path.iterdir()] == ["alice.token"]
        assert provider.counts.snapshot()["mints"] == {"flytectl": 1}


@pytest.mark.parametrize("posture", ["internal", "external"])
def test_the_file_always_holds_a_good_token_over_many_lifetimes(posture, tmp_path):
    with running(posture, lifetime=2) as provider:
        alice = session(provider, tmp_path)
        alice.start()
        try:
            seen, ended = set(), time.monotonic() + 5
            while time.monotonic() < ended:
                text = (tmp_path / "alice.token").read_text()
                assert provider.read(text).claims["exp"] > time.time()
                seen.add(text)
                time.sleep(0.005)
        finally:
            alice.stop()

    assert len(seen) >= 4
    assert len(seen) < 60, "renewing all the time would be no answer either"


def test_the_file_provider_reads_it(tmp_path):
    with running() as provider:
        alice = session(provider, tmp_path)
        alice.renew()
        credential = FileProvider(alice.token_file).fetch(Wanted())

    assert provider.read(credential.token.reveal()).claims["sub"] == "alice"


def test_a_session_survives_a_provider_that_fails_for_a_while(tmp_path, caplog):
    with running("external", lifetime=2) as provider:
        alice = UserSession(
            "alice",
            token_endpoint=provider.issuer.token_endpoint,
            refresh_token=provider.issuer.sign_in("alice"),  # not spared
            token_file=tmp_path / "alice.token",
        )
        alice.start()
        try:
            provider.faults.put({"token_status": {"value": 503, "count": 2}})
            first = (tmp_path / "alice.token").read_text()
            deadline = time.monotonic() + 20
            while (tmp_path / "alice.token").read_text() == first:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        finally:
            alice.stop()

    assert provider.counts.snapshot()["refused_mints"] == {"flytectl": 2}
    assert "answered 503" in caplog.text


def test_a_session_that_is_refused_says_so_and_leaves_the_file_alone(tmp_path):
    with running("external") as provider:
        alice = session(provider, tmp_path)
        alice.renew()
        before = (tmp_path / "alice.token").read_text()
        provider.issuer.refresh_tokens._live.clear()

        with pytest.raises(ProviderError, match="answered 400"):
            alice.renew()

    assert (tmp_path / "alice.token").read_text() == before


def test_a_session_without_a_provider_says_so(tmp_path):
    with running() as provider:
        alice = session(provider, tmp_path)

    with pytest.raises(ProviderUnavailable, match="does not answer"):
        alice.start()


def test_a_session_that_is_stopped_renews_nothing_and_leaves_no_thread(tmp_path):
    before = threading.active_count()
    with running(lifetime=1) as provider:
        alice = session(provider, tmp_path)
        alice.start()
        alice.stop()
        renewed = provider.counts.snapshot()["mints"]["flytectl"]
        time.sleep(1.2)

        assert provider.counts.snapshot()["mints"]["flytectl"] == renewed
    assert threading.active_count() <= before


def test_a_session_shows_no_secret(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with running("external") as provider:
        alice = session(provider, tmp_path)
        first = alice._refresh_token.reveal()
        alice.renew()
        with pytest.raises(ProviderError) as caught:
            provider.issuer.refresh_tokens._live.clear()
            alice.renew()
        secrets = [first, alice._refresh_token.reveal(), (tmp_path / "alice.token").read_text()]

    for secret in secrets:
        assert secret not in caplog.text + str(caught.value) + repr(alice) + repr(vars(alice))
