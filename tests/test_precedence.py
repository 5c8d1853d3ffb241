"""Of all that is configured, the first of the documented table is used; one that is named and broken stops."""

from __future__ import annotations

import base64
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import scripted_agent
import yaml
from flyte_on_a_laptop import Laptop, laptop
from session_servers import FileKeyring

from flytekitplugins.authagent import config, default_order, discovery, session_store
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.config import Settings
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, NoCredential
from flytekitplugins.authagent.keyring_items import KeyringItems
from flytekitplugins.authagent.providers import env
from flytekitplugins.authagent.resolve import resolve
from flytekitplugins.authagent.session import Session, SessionKey
from flytekitplugins.authagent.session_store import SessionStore
from flytekitplugins.authagent.sources import process_wide

pytestmark = pytest.mark.timeout(300)

DOCS = Path(__file__).parent.parent / "docs" / "configuration.md"


@dataclass
class Place:
    """A Flyte, an agent of it, and an empty home. `environ` is the environment of whoever asks."""

    home: Path
    laptop: Laptop
    keyring: FileKeyring
    socket: Path
    environ: dict[str, str]
    admin: dict[str, object]

    @property
    def flyte(self) -> str:
        return self.laptop.flyte.endpoint

    def file(self, name: str, text: str) -> str:
        file = self.home / name
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.write_text(text)
        file.chmod(0o600)
        return str(file)

    def log_in(self, client_id: str = "") -> None:
        """Leave a login in the keyring, as a former `authagent login` did."""
        now = time.time()
        old = Session(Credential(Secret("old-login"), now + 3600, now), client_id=client_id)
        SessionStore(KeyringItems(self.keyring), self.environ).save(SessionKey(self.flyte, client_id), old)

    def used(self) -> str:
        """The provider that serves, or the error that stops."""
        process_wide.clear()
        env._taken.clear()
        self.file(".flyte/config.yaml", yaml.safe_dump({"admin": self.admin}))
        environ = os.environ
        environ.update(self.environ)
        try:
            asked = Asked(configured=self.flyte, interactive=False)
            return resolve(asked, config.load(environ), environ).provider
        except NoCredential:
            return "nothing"
        except AuthAgentError as error:
            return type(error).__name__
        finally:
            for name in self.environ:
                environ.pop(name, None)


@pytest.fixture(scope="module")
def flyte() -> Iterator[Laptop]:
    with tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o700)
        with laptop(Path(directory)) as it:
            yield it


@pytest.fixture
def places(flyte: Laptop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Place]]:
    """Makes empty places, one after the other."""
    with tempfile.TemporaryDirectory(prefix="aa-") as directory:
        path = Path(directory, "agent.sock")
        count = itertools.count()

        def make() -> Place:
            home = Path(directory, str(next(count)))
            home.mkdir(mode=0o700)
            keyring = FileKeyring(home / "keyring")
            monkeypatch.setattr(session_store, "_of_user", [SessionStore(KeyringItems(keyring), {"HOME": str(home)})])
            admin: dict[str, object] = {"endpoint": flyte.flyte.endpoint, "insecure": True}
            return Place(home, flyte, keyring, path, {"HOME": str(home)}, admin)

        with scripted_agent.answering(path, lambda: "from-agent", flyte.flyte.endpoint):
            yield make


def the_agent(place: Place) -> None:
    place.environ["AUTHAGENT_SOCKET"] = str(place.socket)


def a_file(place: Place) -> None:
    place.environ["AUTHAGENT_TOKEN_FILE"] = place.file("token", "from-file")


def a_variable(place: Place) -> None:
    place.environ["AUTHAGENT_TOKEN"] = "from-env"


def an_api_key(place: Place) -> None:
    key = f"http://{place.flyte}:batch:{place.laptop.provider.secret('batch')}:"
    place.environ["FLYTE_API_KEY"] = base64.b64encode(key.encode()).decode()


def a_client_secret(place: Place) -> None:
    secret = place.laptop.provider.secret("batch")
    place.admin |= {"clientId": "batch", "clientSecretLocation": place.file("secret", secret), "scopes": ["all"]}


def a_command(place: Place) -> None:
    place.admin |= {"authType": "ExternalCommand", "command": ["echo", "from-command"]}


def a_login(place: Place) -> None:
    place.log_in()


SOURCES: dict[str, Callable[[Place], None]] = {
    "agent": the_agent,
    "file": a_file,
    "env": a_variable,
    "api_key": an_api_key,
    "client_credentials": a_client_secret,
    "command": a_command,
    "keyring": a_login,
}
"""What serves, in the order of the documentation, and what configures it. `command` stands for every `authType`."""

BROKEN: dict[str, Callable[[Place], object]] = {
    "agent": lambda place: place.environ.update(AUTHAGENT_SOCKET="/nowhere/agent.sock"),
    "file": lambda place: place.environ.update(AUTHAGENT_TOKEN_FILE="/nowhere/token"),
    "env": lambda place: place.environ.update(AUTHAGENT_TOKEN="not a token"),
    "api_key": lambda place: place.environ.update(FLYTE_API_KEY="not a key"),
    "client_credentials": lambda place: place.admin.update(clientId="c", clientSecretLocation="/nowhere/secret"),
    "command": lambda place: place.admin.update(authType="ExternalCommand", command=["/nowhere/program"]),
}
"""The same, named and unusable."""


def subsets(names: list[str]) -> Iterator[tuple[str, ...]]:
    return itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(len(names) + 1))


def test_the_first_of_the_table_that_is_configured_is_used(places: Callable[[], Place]) -> None:
    for configured in subsets(list(SOURCES)):
        place = places()
        for name in configured:
            if name == "keyring" and "client_credentials" in configured:
                continue  # another client, whose login it is not
            SOURCES[name](place)
        assert place.used() == next(iter(configured), "nothing"), configured


@pytest.mark.parametrize("broken", BROKEN)
def test_one_that_is_named_and_broken_stops_whatever_comes_after_it(places: Callable[[], Place], broken: str) -> None:
    after = list(SOURCES)[list(SOURCES).index(broken) + 1 :]
    for configured in subsets(after):
        place = places()
        for name in configured:
            SOURCES[name](place)
        BROKEN[broken](place)
        assert place.used() == ConfigError.__name__, configured


def test_in_a_pod_neither_an_auth_type_nor_a_login_serves(places: Callable[[], Place]) -> None:
    for configured in subsets(["env", "command", "keyring"]):
        place = places()
        place.environ["FLYTE_INTERNAL_EXECUTION_ID"] = "x"
        for name in configured:
            SOURCES[name](place)
        assert place.used() == ("env" if "env" in configured else "nothing"), configured


AUTH_TYPES = {
    "ExternalCommand": "command",
    "external_process": "command",
    "Pkce": "pkce",
    "standard": "pkce",
    "DeviceFlow": "device",
    "Passthrough": "passthrough",
    "authagent": "keyring",
    None: "keyring",
}
"""What `authType` says, and what serves where a former login lies in the keyring."""


@pytest.mark.parametrize("mode", [{}, {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"}], ids=["", "authagent"])
@pytest.mark.parametrize("auth_type", AUTH_TYPES)
def test_a_former_login_serves_for_the_types_of_a_login_only(
    places: Callable[[], Place], auth_type: str | None, mode: dict[str, str]
) -> None:
    place = places()
    place.log_in()
    place.environ |= mode
    place.admin |= {"authType": auth_type, "command": ["echo", "from-command"]} if auth_type else {}
    discovery.forget()
    place.laptop.provider.counts.reset()

    assert place.used() == AUTH_TYPES[auth_type]

    assert place.laptop.provider.counts.snapshot()["mints"] == {}, "it is used as it is, and nobody is asked"


def test_a_login_of_another_client_is_not_the_login_of_this_type(places: Callable[[], Place]) -> None:
    place = places()
    place.log_in("another-client")
    place.admin |= {"authType": "Pkce", "clientId": "mine"}
    assert place.used() == "nothing"


def test_an_auth_type_without_what_it_needs_stops(places: Callable[[], Place]) -> None:
    for admin in ({"authType": "ExternalCommand"}, {"authType": "ClientSecret"}, {"authType": "Kerberos"}):
        place = places()
        place.log_in()
        place.admin |= admin
        assert place.used() == ConfigError.__name__, admin


def test_the_table_of_the_documentation_is_this() -> None:
    rows = DOCS.read_text().split("<!-- default-order -->")[1].split("\n\n")[0].splitlines()[3:]
    table = {row.split("|")[1].strip(" `"): row.split("|")[3].strip() for row in rows}
    pod, elsewhere = default_order.names(Settings(in_pod=True)), default_order.names(Settings())
    assert list(table) == [*elsewhere, *(name for name in pod if name not in elsewhere)]
    for name, where in table.items():
        expected = "only" if name not in elsewhere else "yes" if name in pod else "no"
        assert where == expected, name
