"""Logins in files: who can reach them, what stands in their way, and how they are renewed."""

from __future__ import annotations

import multiprocessing
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import running_provider
from keyring.errors import NoKeyringError
from running_provider import Running
from session_servers import FileKeyring, Renewing, ended

from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.keyring_items import SERVICE, KeyringItems
from flytekitplugins.authagent.login_files import LoginFiles
from flytekitplugins.authagent.session import Session, SessionKey
from flytekitplugins.authagent.session_store import SessionStore

KEY = SessionKey("flyte.example.com")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def keyring(home: Path) -> FileKeyring:
    return FileKeyring(home / "keyring")


@pytest.fixture
def store(keyring: FileKeyring, home: Path) -> SessionStore:
    return SessionStore(KeyringItems(keyring, deadline=0.3), {"HOME": str(home)})


@pytest.fixture
def provider() -> Iterator[Running]:
    with running_provider.running("external") as it:
        yield it


def session(token: str = "a") -> Session:
    return Session(Credential(Secret(token), time.time() + 300, time.time()), Secret("r"))


def lasting(credential: Credential, now: float) -> bool:
    return credential.remaining(now) > 1


def the_file(home: Path) -> Path:
    [file] = LoginFiles({"HOME": str(home)}).all()
    return file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_file_is_its_owners_alone_whatever_the_umask(store: SessionStore, home: Path) -> None:
    before = os.umask(0)
    try:
        store.save(KEY, session(), to="file")
    finally:
        os.umask(before)
    file = the_file(home)
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert file == home / ".flyte" / "authagent" / "logins" / file.name
    assert store.kept_in(KEY) == "file"


def test_a_login_stays_in_the_place_that_was_chosen(store: SessionStore, keyring: FileKeyring, home: Path) -> None:
    store.save(KEY, session("one"), to="keyring")
    store.save(KEY, session("two"), to="file")
    assert keyring.entries() == []
    store.save(KEY, session("three"))
    assert keyring.entries() == []
    assert "three" in the_file(home).read_text()
    store.save(KEY, session("four"), to="keyring")
    assert LoginFiles({"HOME": str(home)}).all() == []
    assert store.load(KEY) == SessionStore(KeyringItems(keyring), {"HOME": str(home)}).load(KEY) is not None


def test_a_keyring_in_trouble_never_means_a_file(store: SessionStore, keyring: FileKeyring, home: Path) -> None:
    keyring.refuses["set"] = NoKeyringError()
    store.save(KEY, session())
    assert LoginFiles({"HOME": str(home)}).all() == []
    with pytest.raises(ConfigError, match="cannot be kept in the keyring: there is none"):
        store.save(KEY, session(), to="keyring")
    with pytest.raises(ConfigError, match="the keyring cannot keep a login: there is none") as caught:
        store.check("keyring", lambda line: None)
    assert "authagent login --store file" in caught.value.hint
    assert "not encrypted" in caught.value.hint


def test_a_file_needs_no_keyring_not_even_one_that_never_answers(store: SessionStore, keyring: FileKeyring) -> None:
    store.save(KEY, session("in-the-file"), to="file")
    keyring.stuck |= {"get", "set", "delete"}
    found = store.fresh(KEY, lambda old: old, enough=lasting, now=time.time)
    assert found is not None
    assert found.credential.token.reveal() == "in-the-file"
    assert store.trouble is None, "the keyring was asked"


def test_whoever_is_slow_to_unlock_is_told_and_waited_for(keyring: FileKeyring, home: Path) -> None:
    store = SessionStore(KeyringItems(keyring, deadline=0.3, unlock=60), {"HOME": str(home)})
    unlocked, told = threading.Event(), []
    get = keyring.get_password

    def get_when_unlocked(service: str, username: str) -> str | None:
        unlocked.wait(60)
        return get(service, username)

    def tell(line: str) -> None:
        told.append(line)
        unlocked.set()

    keyring.get_password = get_when_unlocked  # type: ignore[method-assign]
    store.check("keyring", tell)
    assert len(told) == 1
    assert "unlock it" in told[0]


def linked(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def linked_directory(file: Path) -> None:
    file.parent.rename(file.parent.parent / "elsewhere")
    file.parent.symlink_to(file.parent.parent / "elsewhere")


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir(0o700)


TRAPS: dict[str, Callable[[Path], None]] = {
    "readable by its group": lambda file: file.chmod(0o640),
    "readable by all": lambda file: file.chmod(0o604),
    "writable by all": lambda file: file.chmod(0o602),
    "a link": linked,
    "a dangling link": dangling,
    "a FIFO": fifo,
    "a directory": directory,
    "a directory that others list": lambda file: file.parent.chmod(0o755),
    "a directory that others write": lambda file: file.parent.chmod(0o777),
    "a linked directory": linked_directory,
    "under a directory that others write": lambda file: file.parent.parent.chmod(0o777),
    "no text": lambda file: file.write_bytes(b"\xff\xfe") and None,
    "too large": lambda file: file.write_text("x" * (1 << 21)) and None,
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_file_that_cannot_be_trusted_stops_and_nothing_of_it_is_shown(
    store: SessionStore, keyring: FileKeyring, home: Path, trap: str
) -> None:
    store.save(KEY, session("pl4nted"), to="file")
    keyring.set_password(SERVICE, str(KEY), session("of-the-keyring").to_json().reveal())
    TRAPS[trap](the_file(home))

    with pytest.raises(ConfigError) as caught:
        store.load(KEY)
    assert str(home) in str(caught.value)
    assert "pl4nted" not in str(caught.value)


@pytest.mark.parametrize("trap", ["a link", "readable by all", "a FIFO", "a dangling link"])
def test_one_that_cannot_be_trusted_can_be_forgotten_and_replaced(store: SessionStore, home: Path, trap: str) -> None:
    store.save(KEY, session(), to="file")
    TRAPS[trap](the_file(home))
    store.save(KEY, session("new"), to="file")
    assert (mode(the_file(home)), the_file(home).is_symlink()) == (0o600, False)
    TRAPS[trap](the_file(home))
    store.delete(KEY)
    assert store.load(KEY) is None


def test_what_stands_where_it_is_written_is_not_written_through(store: SessionStore, home: Path) -> None:
    store.save(KEY, session(), to="file")
    victim = home / "victim"
    victim.write_text("kept")
    the_file(home).with_suffix(".new").symlink_to(victim)
    store.save(KEY, session("new"), to="file")
    assert victim.read_text() == "kept"


@pytest.mark.parametrize("environ", [{}, {"HOME": "/proc/nowhere"}, {"HOME": "/dev/null"}], ids=str)
def test_without_a_home_there_is_no_file_and_that_is_known_before(
    keyring: FileKeyring, environ: dict[str, str]
) -> None:
    store = SessionStore(KeyringItems(keyring), environ)
    assert store.load(KEY) is None
    with pytest.raises(ConfigError, match="HOME"):
        store.check("file", lambda line: None)
    with pytest.raises(ConfigError, match="HOME"):
        store.save(KEY, session(), to="file")


def test_a_disk_that_is_full_spends_no_refresh_token_twice(
    store: SessionStore, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(KEY, ended("first"), to="file")
    the_file(home).parent.chmod(0o500)
    if os.geteuid() == 0:  # root writes everywhere: a directory stands in the way instead
        the_file(home).parent.chmod(0o700)
        (blocking := the_file(home).with_suffix(".new")).mkdir()
        (blocking / "full").touch()
    renewals: list[Session] = []

    def renew(old: Session) -> Session:
        renewals.append(old)
        return replace(session("new"), refresh_token=Secret("second"))

    for _ in range(3):
        found = store.fresh(KEY, renew, enough=lasting, now=time.time)
        assert found is not None
        assert found.credential.token.reveal() == "new"
    assert len(renewals) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def ask_in_a_process(home: Path, token_endpoint: str, together: object, answers: object) -> None:
    store = SessionStore(KeyringItems(FileKeyring(home / "keyring")), {"HOME": str(home)})
    together.wait()  # type: ignore[attr-defined]
    found = store.fresh(KEY, Renewing(token_endpoint), enough=lasting, now=time.time)
    assert found is not None
    answers.put(found.credential.token.reveal())  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_eight_processes_spend_a_refresh_token_once(
    store: SessionStore, provider: Running, home: Path, method: str
) -> None:
    store.save(KEY, ended(provider.issuer.sign_in("alice")), to="file")
    context = multiprocessing.get_context(method)
    together, answers = context.Barrier(8), context.Queue()
    arguments = (home, provider.issuer.token_endpoint, together, answers)
    processes = [context.Process(target=ask_in_a_process, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    tokens = [answers.get(timeout=90) for _ in processes]
    for process in processes:
        process.join(20)

    assert len(set(tokens)) == 1
    assert provider.counts.snapshot()["mints"] == {"flytectl": 1}
    assert mode(the_file(home)) == 0o600
    assert [file.name for file in the_file(home).parent.iterdir()] == [the_file(home).name]


def write_over_and_over(home: Path, ready: object) -> None:
    files = LoginFiles({"HOME": str(home)})
    for n in range(100_000):
        files.set("name", f"{n}:" + "x" * 60_000)
        ready.set()  # type: ignore[attr-defined]


def test_a_reader_never_gets_half_a_file_whoever_is_killed(home: Path) -> None:
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        ready = context.Event()
        process = context.Process(target=write_over_and_over, args=(home, ready))
        process.start()
        assert ready.wait(30)
        for _ in range(50):
            text = LoginFiles({"HOME": str(home)}).get("name")
            assert text is not None
            assert len(text.partition(":")[2]) == 60_000
        process.kill()
        process.join(20)
        assert len((LoginFiles({"HOME": str(home)}).get("name") or "").partition(":")[2]) == 60_000
