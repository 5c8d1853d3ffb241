"""Where logins are kept, whatever the keyring does, and how one is renewed once, whoever asks."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import running_provider
from keyring.errors import InitError, KeyringLocked, NoKeyringError, PasswordSetError
from running_provider import Running
from session_servers import FileKeyring, Renewing, ended

from flytekitplugins.authagent import session_lock
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.errors import ConfigError, Denied, ProviderUnavailable
from flytekitplugins.authagent.keyring_items import SERVICE, KeyringItems, KeyringTrouble
from flytekitplugins.authagent.session import Session, SessionKey
from flytekitplugins.authagent.session_store import SessionStore

KEY = SessionKey("flyte.example.com")

TROUBLES = [
    NoKeyringError(),
    KeyringLocked("pl4nted"),
    InitError(),
    PasswordSetError(),
    OSError(1783, "x"),
    RuntimeError(),
    KeyError("pl4nted"),
]


def lasting(credential: Credential, now: float) -> bool:
    return credential.remaining(now) > 1


@pytest.fixture
def keyring(tmp_path: Path) -> FileKeyring:
    return FileKeyring(tmp_path / "keyring")


@pytest.fixture
def store(keyring: FileKeyring, tmp_path: Path) -> SessionStore:
    return SessionStore(KeyringItems(keyring), {"HOME": str(tmp_path)})


@pytest.fixture
def provider() -> Iterator[Running]:
    with running_provider.running("external") as it:
        yield it


def session(token: str = "a", **more: float) -> Session:
    return Session(Credential(Secret(token), time.time() + 300, time.time(), **more), Secret("r"))


def test_a_login_is_kept_and_forgotten(store: SessionStore, keyring: FileKeyring) -> None:
    assert store.load(KEY) is None
    store.save(KEY, session())
    assert store.load(KEY) == SessionStore(KeyringItems(keyring), {}).load(KEY) is not None
    assert len(keyring.entries()) == 1
    store.delete(KEY)
    store.delete(KEY)
    assert store.load(KEY) is None
    assert keyring.entries() == []


@pytest.mark.parametrize(
    "trouble",
    TROUBLES,
    ids=lambda trouble: type(trouble).__name__,
)
@pytest.mark.parametrize("method", ["get", "set"])
def test_a_keyring_in_trouble_means_memory_and_one_warning(
    store: SessionStore, keyring: FileKeyring, trouble: Exception, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    keyring.refuses[method] = trouble
    for n in range(3):
        store.save(KEY, session(f"token{n}"))
    found = store.load(KEY)

    assert found is not None
    assert found.credential.token.reveal() == "token2"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "known to this process only" in caplog.text
    assert "pl4nted" not in caplog.text


def test_a_keyring_that_never_answers_is_given_up(
    keyring: FileKeyring, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SessionStore(KeyringItems(keyring, deadline=0.2), {"HOME": str(tmp_path)})
    keyring.stuck.add("get")
    started = time.monotonic()
    assert store.load(KEY) is None
    assert time.monotonic() - started < 2
    assert store.trouble is not None
    assert "session_servers.FileKeyring did not answer within 0.2 s" in store.trouble
    assert not caplog.records, "it is only said to who finds no credential elsewhere"


def test_after_trouble_it_is_left_alone_for_a_while(store: SessionStore, keyring: FileKeyring) -> None:
    keyring.refuses["get"] = KeyringLocked()
    assert store.load(KEY) is None
    del keyring.refuses["get"]
    keyring.stuck.add("get")  # who asks it now waits
    started = time.monotonic()
    assert store.load(KEY) is None
    assert time.monotonic() - started < 1


def test_an_entry_that_is_no_login_is_none_and_is_replaced(
    store: SessionStore, keyring: FileKeyring, caplog: pytest.LogCaptureFixture
) -> None:
    keyring.set_password(SERVICE, str(KEY), "{pl4nted")
    assert store.load(KEY) is None
    assert "it counts as none" in caplog.text
    assert "pl4nted" not in caplog.text
    store.save(KEY, session())
    assert store.load(KEY) is not None


def test_one_that_keeps_nothing_is_noticed(
    store: SessionStore, keyring: FileKeyring, caplog: pytest.LogCaptureFixture
) -> None:
    keyring.set_password = lambda *_: None  # type: ignore[method-assign] # that is what keyring's null backend does
    store.save(KEY, session())
    assert store.load(KEY) is not None
    assert "does not keep what it is given" in caplog.text


@pytest.mark.parametrize("backend", ["keyring.backends.null.Keyring", "keyring.backends.fail.Keyring"])
def test_the_backends_that_are_none(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring as library
    from keyring import core

    library.set_keyring(core.load_keyring(backend))
    with pytest.raises(KeyringTrouble, match="none on this machine"):
        KeyringItems().get("x")


@pytest.mark.parametrize("size", [10, 1000, 1001, 5000, 99_000])
def test_what_windows_would_not_take_is_kept_in_parts(tmp_path: Path, size: int) -> None:
    backend = FileKeyring(tmp_path / "small", longest=1280)
    items = KeyringItems(backend)
    items.set("name", "x" * size)
    items.set("name", "y" * size)
    assert items.get("name") == "y" * size
    items.set("name", "short")
    assert (items.get("name"), len(backend.entries())) == ("short", 1)
    items.delete("name")
    assert backend.entries() == []


def test_a_write_that_fails_halfway_leaves_the_old_one(tmp_path: Path) -> None:
    backend = FileKeyring(tmp_path / "small", longest=1280)
    items = KeyringItems(backend)
    items.set("name", "x" * 5000)
    for sets in range(5):
        backend.sets_left = sets
        with pytest.raises(KeyringTrouble):
            items.set("name", "y" * 5000)
        assert items.get("name") == "x" * 5000
    backend.sets_left = None
    items.set("name", "z" * 3000)
    assert items.get("name") == "z" * 3000


@pytest.mark.parametrize("head", ["", "7:1", "0:99999", "0:2"])
def test_a_head_that_is_none_is_trouble(tmp_path: Path, head: str) -> None:
    backend = FileKeyring(tmp_path / "small")
    backend.set_password(SERVICE, "name", "authagent-parts:" + head)
    with pytest.raises(KeyringTrouble):
        KeyringItems(backend).get("name")


# Renewing: once, whoever asks.


def renewed(store: SessionStore, renew: Renewing) -> str:
    found = store.fresh(KEY, renew, enough=lasting, now=time.time)
    assert found is not None
    return found.credential.token.reveal()


def lives_on(store: SessionStore, renew: Renewing) -> bool:
    """Whether the login can be renewed once more: a refresh token that was spent twice would have ended it."""
    found = store.load(KEY)
    assert found is not None
    store.save(KEY, replace(found, credential=replace(found.credential, expires_at=time.time() - 1)))
    return renewed(store, renew) != found.credential.token.reveal()


def test_eight_threads_spend_a_refresh_token_once(store: SessionStore, provider: Running) -> None:
    renew = Renewing(provider.issuer.token_endpoint)
    store.save(KEY, ended(provider.issuer.sign_in("alice")))
    together, tokens = threading.Barrier(8), []

    def ask() -> None:
        together.wait()
        tokens.append(renewed(store, renew))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(tokens), len(set(tokens)), renew.requests) == (8, 1, 1)
    assert provider.counts.snapshot()["mints"] == {"flytectl": 1}
    assert lives_on(store, renew)


def test_eight_coroutines_spend_a_refresh_token_once(store: SessionStore, provider: Running) -> None:
    renew = Renewing(provider.issuer.token_endpoint)
    store.save(KEY, ended(provider.issuer.sign_in("alice")))

    async def ask() -> list[str]:
        return await asyncio.gather(*(asyncio.to_thread(renewed, store, renew) for _ in range(8)))

    assert len(set(asyncio.run(ask()))) == 1
    assert renew.requests == 1
    assert lives_on(store, renew)


def ask_in_a_process(home: Path, token_endpoint: str, together: object, answers: object) -> None:
    store = SessionStore(KeyringItems(FileKeyring(home / "keyring")), {"HOME": str(home)})
    together.wait()  # type: ignore[attr-defined]
    answers.put(renewed(store, Renewing(token_endpoint)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_eight_processes_spend_a_refresh_token_once(
    store: SessionStore, provider: Running, tmp_path: Path, method: str
) -> None:
    store.save(KEY, ended(provider.issuer.sign_in("alice")))
    context = multiprocessing.get_context(method)
    together, answers = context.Barrier(8), context.Queue()
    arguments = (tmp_path, provider.issuer.token_endpoint, together, answers)
    processes = [context.Process(target=ask_in_a_process, args=arguments) for _ in range(8)]
    for process in processes:
        process.start()
    tokens = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(20)

    assert len(set(tokens)) == 1
    assert provider.counts.snapshot()["mints"] == {"flytectl": 1}
    assert lives_on(store, Renewing(provider.issuer.token_endpoint))


def hold_and_wait(home: Path, held: object) -> None:
    with session_lock.held(str(KEY), {"HOME": str(home)}):
        held.set()  # type: ignore[attr-defined]
        time.sleep(600)


def test_who_is_killed_while_renewing_blocks_nobody(store: SessionStore, provider: Running, tmp_path: Path) -> None:
    store.save(KEY, ended(provider.issuer.sign_in("alice")))
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold_and_wait, args=(tmp_path, held))
    process.start()
    assert held.wait(20)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(20)
    assert renewed(store, Renewing(provider.issuer.token_endpoint))


def test_a_child_that_is_forked_meanwhile_holds_no_lock(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    with session_lock.held(str(KEY), environ):
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
    try:
        with session_lock.held(str(KEY), environ, wait=1):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("trap", ["a link", "a directory", "open to others"])
def test_a_lock_that_is_not_ours_alone_is_not_taken(tmp_path: Path, trap: str) -> None:
    environ = {"HOME": str(tmp_path)}
    with session_lock.held(str(KEY), environ):
        pass
    (lock,) = (tmp_path / ".flyte" / "authagent").iterdir()
    if trap == "open to others":
        lock.chmod(0o666)
    else:
        lock.unlink()
        lock.symlink_to(tmp_path / "elsewhere") if trap == "a link" else lock.mkdir()
    with pytest.raises(ConfigError, match=r"\.lock"), session_lock.held(str(KEY), environ):
        pytest.fail("it was taken")
    assert not (tmp_path / "elsewhere").exists()


def test_who_waits_too_long_for_another_is_told(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold_and_wait, args=(tmp_path, held))
    process.start()
    assert held.wait(20)
    try:
        with (
            pytest.raises(ProviderUnavailable, match="another process"),
            session_lock.held(str(KEY), {"HOME": str(tmp_path)}, wait=0.2),
        ):
            pytest.fail("it is held")
    finally:
        process.kill()
        process.join(20)


def test_a_login_that_is_refused_is_forgotten_and_one_that_cannot_be_renewed_now_is_not(store: SessionStore) -> None:
    def unavailable(_: Session) -> Session:
        raise ProviderUnavailable("down")

    def refused(_: Session) -> Session:
        raise Denied("no")

    store.save(KEY, ended("r"))
    with pytest.raises(ProviderUnavailable):
        store.fresh(KEY, unavailable, enough=lasting, now=time.time)
    assert store.load(KEY) is not None
    with pytest.raises(Denied):
        store.fresh(KEY, refused, enough=lasting, now=time.time)
    assert store.load(KEY) is None


def test_while_it_is_valid_a_renewal_that_fails_changes_nothing(store: SessionStore) -> None:
    def unavailable(_: Session) -> Session:
        raise ProviderUnavailable("down")

    store.save(KEY, session("still-good"))
    found = store.fresh(KEY, unavailable, enough=lambda credential, now: False, now=time.time)
    assert found is not None
    assert found.credential.token.reveal() == "still-good"


def test_a_login_that_is_refused_is_used_to_its_end_and_not_tried_again(store: SessionStore) -> None:
    asked = []

    def refused(old: Session) -> Session:
        asked.append(old)
        raise Denied("no")

    store.save(KEY, session("still-good"))
    for _ in range(3):
        found = store.fresh(KEY, refused, enough=lambda credential, now: False, now=time.time)
        assert found is not None
        assert found.credential.token.reveal() == "still-good"
    assert len(asked) == 1
    with pytest.raises(Denied, match="the login has ended"):
        store.fresh(KEY, refused, enough=lasting, now=lambda: time.time() + 1000)
    assert store.load(KEY) is None


def test_the_next_refresh_token_is_kept_before_its_token_is_given_out(
    store: SessionStore, keyring: FileKeyring
) -> None:
    store.save(KEY, ended("first"))

    def renew(old: Session) -> Session:
        return replace(session("new"), refresh_token=Secret("second"))

    store.fresh(KEY, renew, enough=lasting, now=time.time)
    kept = SessionStore(KeyringItems(keyring), {}).load(KEY)
    assert kept is not None
    assert kept.refresh_token is not None
    assert kept.refresh_token.reveal() == "second"


def test_what_is_spent_does_not_stay_where_others_would_spend_it_again(
    store: SessionStore, keyring: FileKeyring
) -> None:
    store.save(KEY, ended("first"))
    keyring.refuses["set"] = PasswordSetError()
    store.fresh(KEY, lambda _: replace(session("new"), refresh_token=Secret("second")), enough=lasting, now=time.time)
    assert keyring.entries() == []
    found = store.load(KEY)
    assert found is not None
    assert found.credential.token.reveal() == "new"


def test_a_child_does_not_spend_what_only_its_parents_memory_has(keyring: FileKeyring, store: SessionStore) -> None:
    keyring.refuses["set"] = PasswordSetError()
    store.save(KEY, session("shared"))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        found = store.load(KEY)
        told = b"?" if found is None else found.credential.token.reveal().encode() + str(found.refresh_token).encode()
        os.write(write, told)
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"sharedNone"
    found = store.load(KEY)
    assert found is not None
    assert found.refresh_token is not None


# What pyflyte stored.


@pytest.mark.parametrize("spelling", ["flyte.example.com", "dns:///flyte.example.com"])
def test_pyflytes_login_is_found_under_its_spellings(store: SessionStore, keyring: FileKeyring, spelling: str) -> None:
    keyring.set_password(spelling, "access_token", "of-pyflyte")
    found = store.of_pyflyte(SessionKey("dns:///flyte.example.com"))
    assert found is not None
    assert found.credential.token.reveal() == "of-pyflyte"
    assert found.pyflytes == spelling


def test_pyflytes_login_is_renewed_for_pyflyte_too(
    store: SessionStore, keyring: FileKeyring, provider: Running
) -> None:
    first = provider.issuer.sign_in("alice")
    keyring.set_password("flyte.example.com", "access_token", "opaque")
    keyring.set_password("flyte.example.com", "refresh_token", first)
    renew = Renewing(provider.issuer.token_endpoint)
    token = renewed(store, renew)

    assert keyring.get_password("flyte.example.com", "access_token") == token
    second = keyring.get_password("flyte.example.com", "refresh_token")
    assert second not in (None, first)
    assert renewed(store, renew) == token
    assert renew.requests == 1


def test_pyflytes_entries_are_whole_or_left_alone(store: SessionStore, keyring: FileKeyring, provider: Running) -> None:
    keyring.set_password("flyte.example.com", "access_token", "opaque")
    keyring.set_password("flyte.example.com", "refresh_token", provider.issuer.sign_in("alice"))
    keyring.longest = 300  # its access token is longer
    renew = Renewing(provider.issuer.token_endpoint)
    token = renewed(store, renew)

    assert keyring.get_password("flyte.example.com", "access_token") == "opaque"
    keyring.longest = None
    assert renewed(store, renew) == token  # what stands in pyflyte's entries is spent, and not taken for newer
    assert lives_on(store, renew)


def test_what_pyflyte_renewed_meanwhile_is_taken_from_it(
    store: SessionStore, keyring: FileKeyring, provider: Running
) -> None:
    keyring.set_password("flyte.example.com", "access_token", "opaque")
    keyring.set_password("flyte.example.com", "refresh_token", provider.issuer.sign_in("alice"))
    renew = Renewing(provider.issuer.token_endpoint)
    renewed(store, renew)
    theirs = renew(replace(ended(keyring.get_password("flyte.example.com", "refresh_token") or "")))
    assert theirs.refresh_token is not None
    keyring.set_password("flyte.example.com", "access_token", theirs.credential.token.reveal())
    keyring.set_password("flyte.example.com", "refresh_token", theirs.refresh_token.reveal())

    assert renewed(store, renew) == theirs.credential.token.reveal()
    assert lives_on(store, renew)
