"""Logins in a real Secret Service, and what `pyflyte` itself stored in one."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import running_provider
import secret_service

pytestmark = pytest.mark.peer

LOGIN = """
import logging, sys, time
logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(levelname)s %(message)s")
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.keyring_items import KeyringItems
from flytekitplugins.authagent.session import Session, SessionKey
from flytekitplugins.authagent.session_store import SessionStore, of_user
key = SessionKey("dns:///flyte.example.com", "flytectl")
big = [Secret(letter * 32768) for letter in "xyz"]
session = Session(Credential(big[0], expires_at=2e9, id_token=big[1]), big[2])
store = of_user()
def another():
    logging.disable()
    return SessionStore(KeyringItems(), {}).load(key)
"""
SAVE = LOGIN + "store.save(key, session); print(store.load(key) == session, len(session.to_json().reveal()) > 98_000)"
LOAD = LOGIN + "print(store.load(key) == session); store.delete(key); print(store.load(key), another())"
TRY = LOGIN + "store.save(key, session); print(store.load(key) == session, another())"

PYFLYTE = """
from flytekit.clients.auth.keyring import Credentials, KeyringStore
KeyringStore.store(Credentials("opaque", "refresh-0", "dns:///localhost:30080", id_token="an.id.token"))
"""
TAKE = """
from dataclasses import replace
import time
from flytekitplugins.authagent.credential import Credential, Secret
from flytekitplugins.authagent.session import SessionKey
from flytekitplugins.authagent.session_store import of_user
store, key = of_user(), SessionKey("localhost:30080", "flytectl")
found = store.of_pyflyte(key)
assert found.refresh_token == Secret("refresh-0") and found.credential.id_token == Secret("an.id.token")
def renew(session):
    new = Credential(Secret("access-1"), expires_at=2e9)
    return replace(session, credential=new, refresh_token=Secret("refresh-1"))
enough = lambda credential, now: credential.remaining(now) > 60
print(store.fresh(key, renew, enough=enough, now=time.time).refresh_token == Secret("refresh-1"))
"""
READ = """
from flytekit.clients.auth.keyring import KeyringStore
found = KeyringStore.retrieve("dns:///localhost:30080")
print(found.access_token, found.refresh_token)
"""


def test_a_hundred_kilobytes_survive_the_process_and_the_daemon(tmp_path: Path) -> None:
    with secret_service.running(tmp_path) as environ:
        assert secret_service.python(SAVE, environ) == "True True\n"
    with secret_service.running(tmp_path) as environ:
        assert secret_service.python(LOAD, environ) == "True\nNone None\n"
    files = [file for file in (tmp_path / "data").rglob("*") if file.is_file()]
    assert files
    assert not any(b"x" * 1000 in file.read_bytes() for file in files)


def _in_memory_with_one_warning(said: str) -> None:
    lines = said.splitlines()
    assert [line.split()[0] for line in lines] == ["WARNING", "True"], said[:2000]
    assert "known to this process only" in lines[0]
    assert lines[1] == "True None"


def test_a_locked_keyring(tmp_path: Path) -> None:
    with secret_service.running(tmp_path, password=None) as environ:
        _in_memory_with_one_warning(secret_service.python(TRY, environ))


def test_a_keyring_unlocked_with_the_wrong_password(tmp_path: Path) -> None:
    with secret_service.running(tmp_path, password="right\n") as environ:
        assert secret_service.python(SAVE, environ) == "True True\n"
    with secret_service.running(tmp_path, password="wrong\n") as environ:
        _in_memory_with_one_warning(secret_service.python(TRY, environ))


@pytest.mark.parametrize("variables", [{}, {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}])
def test_no_bus_and_no_keyring(tmp_path: Path, variables: dict[str, str]) -> None:
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
    _in_memory_with_one_warning(secret_service.python(TRY, {**environ, **variables}))


def test_what_pyflyte_stored_is_read_renewed_and_given_back(tmp_path: Path) -> None:
    with secret_service.running(tmp_path) as environ:
        secret_service.python(PYFLYTE, environ)
        assert secret_service.python(TAKE, environ) == "True\n"
        assert secret_service.python(READ, environ) == "access-1 refresh-1\n"


START = """
import sys
from session_servers import ended
from flytekitplugins.authagent.session import SessionKey
from flytekitplugins.authagent.session_store import of_user
of_user().save(SessionKey("flyte.example.com"), ended(sys.argv[1]))
"""
RENEW = """
import sys, time
from session_servers import Renewing
from flytekitplugins.authagent.session import SessionKey
from flytekitplugins.authagent.session_store import of_user
enough = lambda credential, now: credential.remaining(now) > 1
print(of_user().fresh(SessionKey("flyte.example.com"), Renewing(sys.argv[1]), enough=enough, now=time.time)
    .credential.token.reveal())
"""


def test_eight_processes_renew_a_login_in_it_once(tmp_path: Path) -> None:
    with secret_service.running(tmp_path) as environ, running_provider.running("external") as provider:
        secret_service.python(START, environ, provider.issuer.sign_in("alice"))
        with ThreadPoolExecutor(8) as pool:
            tokens = set(
                pool.map(lambda _: secret_service.python(RENEW, environ, provider.issuer.token_endpoint), range(8))
            )
        assert len(tokens) == 1
        assert provider.counts.snapshot()["mints"] == {"flytectl": 1}


def test_the_service_leaves_nothing_behind(tmp_path: Path) -> None:
    with secret_service.running(tmp_path) as environ:
        address = environ["DBUS_SESSION_BUS_ADDRESS"]
        assert address
    listed = subprocess.run(
        ["ps", "axeww"], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    ).stdout
    assert str(tmp_path) not in listed
