"""flytekit's authenticator, over a shared source: the `flytekit.auth` entry point `authagent`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from flytekit.clients.auth.authenticator import Authenticator, ClientConfigStore
from flytekit.configuration import PlatformConfig

from flytekitplugins.authagent import failed_call, flyte, flytekit_client, passthrough, rejection
from flytekitplugins.authagent.credential import Credential, claims, moment
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, Rejected
from flytekitplugins.authagent.resolve import Resolution


class _Call(threading.local):
    """
    Where this thread is in its latest call.

    `replaying`: a rejection was answered, and the same call is about to be sent once more. `suspect`: that was
    done, or something failed for good, so flytekit may be about to repeat what must not be repeated.
    """

    handed: Credential | None = None
    replaying = False
    suspect = False


class AgentAuthenticator(Authenticator):  # type: ignore[misc] # flytekit has no types
    """
    Puts a token on every RPC, the first included, and answers a rejection with one renewal and one replay.

    One is made for each channel; all of them share the source, so none holds a token of its own.
    """

    def __init__(
        self, resolution: Resolution, platform: PlatformConfig, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        super().__init__(platform.endpoint, resolution.header)
        self._resolution = resolution
        self._platform = platform
        self._sleep = sleep
        self._call = _Call()
        self._checked: Credential | None = None

    def fetch_grpc_call_auth_metadata(self) -> tuple[str, str] | None:
        """
        The header for the call that is about to be sent, `None` for a Flyte without authentication.

        Raises our errors; flytekit wraps them as a cause.
        """
        call = self._call
        if call.replaying:
            call.replaying, call.suspect = False, True
        elif call.suspect:
            self._stop_repeating(call)
        try:
            if self._resolution.provider == "passthrough":
                return self._passed_through()
            credential = self._resolution.source.get()
            if credential is not self._checked:
                self._checked = self._resolution.check(credential)
        except AuthAgentError:
            call.suspect = True
            raise
        call.handed = credential
        if credential.is_anonymous:
            return None
        return self._header(credential), f"Bearer {credential.token.reveal()}"

    def _passed_through(self) -> tuple[str, str] | None:
        """The header of the code itself. A remote of ours adds them all, where flytekit has room for one."""
        headers = passthrough.current()
        if isinstance(self._platform, flyte.Platform):
            return None
        if len(headers) > 1:
            raise ConfigError(
                f"flytekit's own client sends one header, and auth_metadata(...) has {len(headers)}",
                hint="use current_context().remote or remote.default(), or set one header",
            )
        return headers[0][0], headers[0][1].reveal()

    def refresh_credentials(self) -> None:
        """Called when an RPC failed in a way that flytekit takes for a matter of credentials."""
        call, error = self._call, failed_call.seen_by_caller()
        if error is not None and not failed_call.is_one(error):
            raise error  # renewing would not help, and replaying might do twice what was meant once
        words = failed_call.reason(error)
        if rejection.NO_SCOPE in words:
            raise self._rejected(words, call)
        call.replaying = True
        if call.handed is None:
            return
        if rejection.TOO_NEW in words:
            self._sleep(1.0)
            return
        fresh = self._resolution.source.renew(call.handed)
        issued_at = moment(claims(fresh.token).get("iat"))
        if issued_at is not None and issued_at >= time.time():
            self._sleep(1.0)

    def _stop_repeating(self, call: _Call) -> None:
        """flytekit repeats every failed call up to three times more; what has failed for good is not sent again."""
        call.suspect = False
        before = failed_call.previous_attempt()
        if isinstance(before, AuthAgentError):
            call.suspect = True
            raise before.again()
        if failed_call.is_one(before):
            raise self._rejected(failed_call.reason(before), call)

    def _rejected(self, words: str, call: _Call) -> Rejected:
        call.suspect = True
        return Rejected(
            f"Flyte at {self._endpoint} rejected the credential from {self._resolution.provider}: {words}",
            hint=rejection.hint(words),
        )

    def _header(self, credential: Credential) -> str:
        """Set by the user, known to the source, or asked of the server: one key, never two."""
        return self._resolution.header or credential.header or flyte.discovered_header(self._platform)


def authenticator(platform: PlatformConfig, _store: ClientConfigStore) -> AgentAuthenticator:
    """
    What flytekit calls for a channel whose `auth_mode` is `authagent`, at its first RPC and after every failure.

    Our own remotes bring what they resolved; for flytekit's own clients the environment is resolved here.
    """
    flytekit_client.teach(os.environ)  # where a file of Flyte's configuration brought us here
    resolution = platform.resolution if isinstance(platform, flyte.Platform) else None
    return AgentAuthenticator(resolution or flyte.resolved_for(platform, os.environ), platform)
