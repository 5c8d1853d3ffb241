"""Somebody who signed in earlier: a file that always holds a good token of theirs."""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from flytekitplugins.authagent.credential import Secret, claims, token
from flytekitplugins.authagent.errors import ProviderError, ProviderUnavailable
from flytekitplugins.authagent.sandbox import private
from flytekitplugins.authagent.sandbox.client import FLYTECTL

TIMEOUT = 5.0
"""Seconds for one request to the token endpoint."""

RETRY_SECONDS = 0.5
SOONEST = 0.01

logger = logging.getLogger(__name__)


class UserSession:
    """
    Keeps `token_file` (0600, replaced in one step) fresh with the refresh grant (RFC 6749 section 6).

    The file holds the token and nothing else. `now` gives seconds since the epoch by the provider's clock.
    """

    def __init__(
        self,
        user: str,
        *,
        token_endpoint: str,
        refresh_token: str,
        token_file: Path,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.user, self.token_file = user, token_file
        self._endpoint, self._refresh_token = urlsplit(token_endpoint), Secret(refresh_token)
        self._now = now
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name=f"session of {user}", daemon=True)

    def renew(self) -> float:
        """
        Put a new token into the file.

        Returns the seconds that it is good for. Raises `ProviderUnavailable` where the provider does not answer,
        `ProviderError` where it refuses.
        """
        answer = self._ask()
        self._refresh_token = Secret(answer["refresh_token"])  # before anything else: the old one may be spent
        access_token = token(answer["access_token"], of="the token endpoint")
        private.write(self.token_file, access_token.reveal())
        return float(claims(access_token)["exp"]) - self._now()

    def start(self) -> None:
        """Sign in, so that the file is there, and keep it fresh from now on. Raises what `renew` raises."""
        self._left = self.renew()
        self._thread.start()

    def stop(self) -> None:
        """Leave the file as it is."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=TIMEOUT + 1)

    def _keep_fresh(self) -> None:
        """Renew at half of each token's life: the other half is there for a provider that is slow or down."""
        while not self._stopping.wait(max(self._left / 2, SOONEST)):
            try:
                self._left = self.renew()
            except ProviderError as broken:
                logger.warning("%s: %s", self._thread.name, broken)
                self._left = 2 * RETRY_SECONDS

    def _ask(self) -> dict[str, Any]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token.reveal(),
            "client_id": FLYTECTL,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection = http.client.HTTPConnection(self._endpoint.netloc, timeout=TIMEOUT)  # no proxy on the way
        try:
            connection.request("POST", self._endpoint.path, urlencode(form), headers)
            response = connection.getresponse()
            body = response.read(1 << 16)
        except (OSError, http.client.HTTPException) as broken:
            raise ProviderUnavailable(f"the token endpoint does not answer: {type(broken).__name__}") from None
        finally:
            connection.close()
        try:
            answer = json.loads(body)
            usable = response.status == 200 and answer.keys() >= {"access_token", "refresh_token"}
        except (ValueError, AttributeError):
            usable = False
        if not usable:
            raise ProviderError(f"the token endpoint answered {response.status}")
        return dict(answer)
