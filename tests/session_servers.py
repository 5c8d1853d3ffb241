"""A store of logins for tests: a keyring of our own, and logins at the sandbox's provider."""

from __future__ import annotations

import json
import os
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError, PasswordSetError

from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import Denied
from flytekitplugins.authagent.session import Session


class FileKeyring(KeyringBackend):
    """
    Entries in a directory, for any number of processes.

    `longest`: characters of an entry, as with Windows; `refuses`: methods that fail; `stuck`: methods that never end.
    """

    priority = 1  # type: ignore[assignment] # keyring's own way

    def __init__(self, directory: Path, *, longest: int | None = None) -> None:
        self.directory, self.longest = directory, longest
        self.refuses: dict[str, Exception] = {}
        self.stuck: set[str] = set()
        self.sets_left: int | None = None
        directory.mkdir(exist_ok=True)

    def get_password(self, service: str, username: str) -> str | None:
        self._trouble("get")
        try:
            return self._file(service, username).read_text()
        except FileNotFoundError:
            return None

    def set_password(self, service: str, username: str, password: str) -> None:
        self._trouble("set")
        if self.longest is not None and len(password) > self.longest:
            raise OSError(1783, "The stub received bad data")
        if self.sets_left is not None:
            if not self.sets_left:
                raise PasswordSetError("no more")
            self.sets_left -= 1
        new = self._file(service, username).with_suffix(f".{time.monotonic_ns()}")
        new.write_text(password)
        new.rename(self._file(service, username))

    def delete_password(self, service: str, username: str) -> None:
        self._trouble("delete")
        try:
            self._file(service, username).unlink()
        except FileNotFoundError:
            raise PasswordDeleteError("not there") from None

    def entries(self) -> list[str]:
        return [urllib.parse.unquote(file.name) for file in sorted(self.directory.iterdir())]

    def _file(self, service: str, username: str) -> Path:
        return self.directory / urllib.parse.quote(f"{service}|{username}", safe="")

    def _trouble(self, method: str) -> None:
        if method in self.stuck:
            time.sleep(3600)
        if method in self.refuses:
            raise self.refuses[method]


class HomeKeyring(FileKeyring):
    """For commands: PYTHON_KEYRING_BACKEND=session_servers.HomeKeyring."""

    def __init__(self) -> None:
        super().__init__(Path(os.environ["HOME"]) / "keyring")


class StuckKeyring(HomeKeyring):
    """Never answers."""

    priority = -1  # type: ignore[assignment] # never chosen but by name

    def _trouble(self, method: str) -> None:
        time.sleep(3600)


class RefusingKeyring(HomeKeyring):
    """Can be read, and takes nothing."""

    priority = -1  # type: ignore[assignment] # never chosen but by name

    def set_password(self, service: str, username: str, password: str) -> None:
        raise PasswordSetError("pl4nted")


class ForgetfulKeyring(HomeKeyring):
    """Takes what it does not keep."""

    priority = -1  # type: ignore[assignment] # never chosen but by name

    def set_password(self, service: str, username: str, password: str) -> None:
        """Nothing is kept."""


@dataclass
class Renewing:
    """Renews logins at a token endpoint, and counts how often."""

    token_endpoint: str
    requests: int = 0
    spent: list[str] = field(default_factory=list)

    def __call__(self, session: Session) -> Session:
        assert session.refresh_token is not None
        self.requests += 1
        form = {"grant_type": "refresh_token", "refresh_token": session.refresh_token.reveal(), "client_id": "flytectl"}
        request = urllib.request.Request(self.token_endpoint, urllib.parse.urlencode(form).encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as refused:
            raise Denied(f"the token endpoint answered {refused.code}") from None
        now = time.time()
        credential = Credential(Secret(answer["access_token"]), now + answer["expires_in"], answer["expires_in"])
        return replace(session, credential=credential, refresh_token=Secret(answer["refresh_token"]))


def ended(refresh_token: str) -> Session:
    """A login whose access token has just ended."""
    credential = Credential(Secret("old"), expires_at=time.time() - 1, lifetime=299.0)
    return Session(credential, Secret(refresh_token), client_id="flytectl")
