"""
The three questions that the Kubernetes API server is asked, as plain HTTP.

Only 201 of a review, 200 and 404 of an object are answers. Everything else, however definite it sounds, means that the
API server cannot be asked for now: nobody is denied because of it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests

from flytekitplugins.authagent import ca_bundle, trust
from flytekitplugins.authagent.agent.kubernetes_settings import KubernetesSettings
from flytekitplugins.authagent.agent.refusal import Refusal, unavailable
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.deadline import DeadlineSession, TooLarge
from flytekitplugins.authagent.errors import ConfigError

logger = logging.getLogger(__name__)

CALL_SECONDS = 2.0
"""For one call: an API server whose store hangs answers nothing, or after half a minute."""

IDLE_SECONDS = 55.0
"""After which a connection is not used again: the API server closes idle ones after 90."""

MAX_ANSWER = 2 << 20
"""Bytes. Kubernetes' own limit on an object is about 1.5 MiB."""

MAX_TOKEN_FILE = 32 * 1024

_PLAIN = "application/json"


@dataclass
class _Line:
    """A thread's own connection. `used` is by the steady clock."""

    session: DeadlineSession
    used: float


class ApiServer:
    """
    Asks; safe to use from any thread. `trouble` is why it cannot be asked, empty while it can.

    `deadline`s are by the steady clock. All methods raise `Refusal` (503) where there is no answer in time.
    """

    def __init__(self, settings: KubernetesSettings, steady: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._steady = steady
        self._lines = threading.local()
        self.trouble = ""

    def review(self, token: Secret, deadline: float) -> dict[str, Any]:
        """The `status` of a TokenReview of `token` for our audience."""
        spec = {"token": token.reveal(), "audiences": [self._settings.audience]}
        content = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        path = "/apis/authentication.k8s.io/v1/tokenreviews?fieldValidation=Strict"
        answer = self._ask("POST", path, deadline, json.dumps(content).encode())
        return _section(answer or {}, "status")

    def pod(self, namespace: str, name: str, deadline: float) -> dict[str, Any] | None:
        """The pod, `None` where there is none."""
        return self._ask("GET", f"/api/v1/namespaces/{quote(namespace, '')}/pods/{quote(name, '')}", deadline)

    def workflow(self, namespace: str, name: str, deadline: float) -> dict[str, Any] | None:
        """The FlyteWorkflow, `None` where there is none."""
        where = f"/apis/flyte.lyft.com/v1alpha1/namespaces/{quote(namespace, '')}"
        return self._ask("GET", f"{where}/flyteworkflows/{quote(name, '')}", deadline)

    def _ask(self, method: str, path: str, deadline: float, body: bytes | None = None) -> dict[str, Any] | None:
        tries = 0
        while True:
            tries += 1
            own = self._own_token()
            try:
                answer, content = self._send(method, path, body, own, deadline)
            except TooLarge:
                raise self._cannot("its answer is too large") from None
            except requests.exceptions.Timeout:
                raise self._cannot("no answer in time") from None
            except requests.exceptions.ConnectionError as lost:
                if tries > 1 or isinstance(lost, requests.exceptions.SSLError):
                    raise self._cannot(f"{type(lost).__name__}") from None
                continue  # most likely a connection that was idle for too long
            except requests.exceptions.RequestException as failed:
                raise self._cannot(type(failed).__name__) from None
            if answer.status_code == 401 and tries == 1 and self._own_token() != own:
                continue  # kubelet has replaced it meanwhile
            if answer.status_code == 429:
                self._pause(answer.headers.get("Retry-After", ""), deadline)
                continue
            return self._read(method, answer, content)

    def _read(self, method: str, answer: requests.Response, content: bytes) -> dict[str, Any] | None:
        if answer.status_code == 404 and method == "GET" and _json(content).get("reason") == "NotFound":
            self.trouble = ""
            return None
        if answer.status_code != (201 if method == "POST" else 200):
            why = {401: "it does not know the agent's own token", 403: "the agent's role does not allow it"}
            raise self._cannot(why.get(answer.status_code, f"it answered {answer.status_code}"))
        found = _json(content)
        if not found:
            raise self._cannot("its answer is no JSON object")
        self.trouble = ""
        return found

    def _send(
        self, method: str, path: str, body: bytes | None, own: Secret, deadline: float
    ) -> tuple[requests.Response, bytes]:
        left = min(deadline - self._steady(), CALL_SECONDS)
        if left <= 0:
            raise self._cannot("no answer in time")
        secure = self._settings.api_server.startswith("https:")
        if secure:
            try:
                ca_bundle.check_file(self._settings.ca_file)
            except ConfigError as wrong:
                raise self._cannot(str(wrong.args[0])) from None
        line = self._line()
        headers = {"Authorization": f"Bearer {own.reveal()}", "Accept": _PLAIN}
        if body is not None:
            headers["Content-Type"] = _PLAIN
        try:
            exchanged = line.session.exchange(
                method,
                self._settings.api_server + path,
                deadline=time.monotonic() + left,
                limit=MAX_ANSWER,
                data=body,
                headers=headers,
                verify=str(self._settings.ca_file) if secure else True,
            )
        except requests.exceptions.RequestException:
            self._lines.line = None  # what is left of the answer would be taken for the next one's
            line.session.close()
            raise
        line.used = self._steady()
        return exchanged

    def _line(self) -> _Line:
        line: _Line | None = getattr(self._lines, "line", None)
        if line is None or self._steady() > line.used + IDLE_SECONDS:
            line = self._lines.line = _Line(DeadlineSession(), self._steady())
        return line

    def _own_token(self) -> Secret:
        """Read by its path each time: kubelet replaces the directory behind it."""
        try:
            content = trust.read(self._settings.token_file, secret=False, limit=MAX_TOKEN_FILE)
            return Secret(content.decode("ascii").strip())
        except (OSError, ConfigError, UnicodeDecodeError):
            raise self._cannot(f"the agent's own token in {self._settings.token_file} cannot be read") from None

    def _pause(self, retry_after: str, deadline: float) -> None:
        seconds = min(int(retry_after), 60) if retry_after.isascii() and retry_after.isdigit() else 1
        if self._steady() + seconds >= deadline:
            raise self._cannot("it has too many requests")
        time.sleep(seconds)

    def _cannot(self, why: str) -> Refusal:
        if why != self.trouble:
            logger.warning("the Kubernetes API server cannot be asked: %s", why)
        self.trouble = why
        return unavailable("pods cannot be attested for now", f"the API server: {why}")


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}
