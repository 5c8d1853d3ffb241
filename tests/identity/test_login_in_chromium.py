"""The package's own logins in a real browser: an identity provider's pages, and then ours."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from browser import Browser, browser
from identity_provider import IdentityProvider
from session_servers import FileKeyring

from flytekitplugins.authagent.credential import claims
from flytekitplugins.authagent.errors import Denied
from flytekitplugins.authagent.keyring_items import KeyringItems
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.oauth_client import OAuthClient
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.session_store import SessionStore
from flytekitplugins.authagent.specs import DeviceSpec, PkceSpec
from flytekitplugins.authagent.terminal import Terminal

pytestmark = [pytest.mark.peer, pytest.mark.timeout(180)]


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path) as opened:
        yield opened


class Person:
    """Alice, who does in her browser what she is asked to; `page` is what she sees at last."""

    def __init__(self, idp: IdentityProvider, window: Browser, directory: Path, *, deny: bool = False) -> None:
        self.page: Future[str] = Future()
        self._idp, self._window, self._directory, self._deny = idp, window, directory, deny

    def provider(self, spec: PkceSpec | DeviceSpec) -> PersonProvider:
        store = SessionStore(KeyringItems(FileKeyring(self._directory / "keyring")), {"HOME": str(self._directory)})
        terminal = Terminal(self._read, self._open, lambda: None)
        return PersonProvider(spec, OAuthClient(spec, spec.kind), store, terminal)

    def _open(self, url: str) -> bool:
        threading.Thread(target=self._visit, args=(url,), daemon=True).start()
        return True

    def _read(self, line: str) -> None:
        if "enter the code" in line and (words := line.split()):
            self._open(f"{words[1]}?user_code={words[-1]}")

    def _visit(self, url: str) -> None:
        try:
            alice = self._idp.users["alice"]
            self.page.set_result(self._window.approve(url, alice, deny=self._deny))
            self._window.photograph("last")
        except Exception as failed:
            self.page.set_exception(failed)


def test_who_logs_in_sees_that_it_worked(oidc_provider: IdentityProvider, window: Browser, tmp_path: Path) -> None:
    person = Person(oidc_provider, window, tmp_path)
    spec = PkceSpec(issuer=oidc_provider.issuer, client_id="app", scopes=("openid", "all", "offline_access"))
    found = person.provider(spec).fetch(Wanted())

    assert found is not None
    assert claims(found.token)["sub"] == "alice"
    assert "You are logged in" in person.page.result(30)
    assert "code=" not in person.page.result(0)


def test_who_declines_sees_that_it_did_not(oidc_provider: IdentityProvider, window: Browser, tmp_path: Path) -> None:
    person = Person(oidc_provider, window, tmp_path, deny=True)
    spec = PkceSpec(issuer=oidc_provider.issuer, client_id="app", scopes=("all",))
    with pytest.raises(Denied, match="declined"):
        person.provider(spec).fetch(Wanted())

    assert "did not succeed" in person.page.result(30)


def test_a_code_is_confirmed_on_the_device_page(
    oidc_provider: IdentityProvider, window: Browser, tmp_path: Path
) -> None:
    person = Person(oidc_provider, window, tmp_path)
    spec = DeviceSpec(issuer=oidc_provider.issuer, client_id="device", scopes=("all",), patience=60)
    found = person.provider(spec).fetch(Wanted())

    assert found is not None
    assert claims(found.token)["sub"] == "alice"
