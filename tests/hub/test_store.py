"""The store, as its callers may rely on it: one suite over memory, a SQLite file and a real PostgreSQL."""

from __future__ import annotations

import re
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres import PASSWORD, Postgres
from sqlalchemy import insert, text

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ConfigError, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.hub import statements as sql
from flytekitplugins.authagent.hub.children import MOST_CHILDREN
from flytekitplugins.authagent.hub.records import Access
from flytekitplugins.authagent.hub.seal import Key, Seal
from flytekitplugins.authagent.hub.store import Grant, Store, Taken, Tokens, TooMany
from flytekitplugins.authagent.hub.tables import covered, metadata

ROOT, CHILD = "flytesnacks:development:aroot", "flytesnacks:development:achild"
TOKENS = Tokens(
    Secret("the-refresh-token"), 5000.0, (Access(Secret("the-access-token"), 1300.0, ("all", "offline"), 1000.0),)
)
OLD, NEW, WRONG = (Key(bytes([n]) * 32) for n in (1, 2, 3))


class Clock:
    """A moment that tests move; 1000 at first."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").new_database()
    return "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/hub.db"


@pytest.fixture
def opened(clock: Clock) -> Iterator[Callable[..., Store]]:
    """Opens stores, and closes them in the end."""
    stores = []

    def start(url: str, *keys: Key, pool: int = 16) -> Store:
        store = Store(url, Seal(keys or [OLD]), now=clock, pool=pool)
        store.start()
        stores.append(store)
        return store

    yield start
    for store in stores:
        store.close()


@pytest.fixture
def store(url: str, opened: Callable[..., Store]) -> Store:
    return opened(url)


def deposited(store: Store, execution: str = ROOT, *, pending: Secret | None = None, **changed: object) -> Grant:
    values = {"subject": "ada", "client": "cli", "scopes": ("all", "read"), "expires_at": 2000.0, "launched": True}
    return store.deposit(execution, pending=pending, **(values | changed))


def active(store: Store, execution: str = ROOT, tokens: Tokens = TOKENS) -> Grant:
    found = store.activate(deposited(store, execution, pending=Secret("consent")).id, tokens)
    assert found
    return found


def kept(store: Store, id: str) -> Tokens:
    with store.custody.of(id) as held:
        assert held
        return held.tokens


# A grant's life


def test_a_grant_waits_for_its_consent_becomes_active_once_and_ends_once(store: Store, clock: Clock) -> None:
    grant = deposited(store, pending=Secret("consent"))
    assert grant == Grant(
        grant.id, ROOT, "ada", "cli", ("all", "read"), "pending", "", 1000.0, 2000.0, None, True, 0, "none"
    )
    assert store.get(grant.id) == store.covering(ROOT) == grant
    assert store.of_execution(ROOT) is None
    assert store.pending(grant.id) == (grant, Secret("consent"))
    assert store.amend(grant.id, Secret("another"))
    assert store.pending(grant.id) == (grant, Secret("another"))
    assert not store.amend(grant.id, Secret("third"), instead_of=Secret("consent"))
    assert store.amend(grant.id, Secret("third"), instead_of=Secret("another"))
    assert store.pending(grant.id) == (grant, Secret("third"))

    now_active = replace(grant, status="active")
    assert store.activate(grant.id, TOKENS) == now_active
    assert store.activate(grant.id, Tokens()) is None
    assert store.pending(grant.id) is None
    assert not store.amend(grant.id, Secret("late"))
    held = store.of_execution(ROOT)
    assert held
    assert (held.grant, held.tokens) == (now_active, TOKENS)

    clock.moment = 1100.0
    ended = replace(now_active, status="ended", reason="revoked", ended_at=1100.0, revocation="pending")
    assert store.end(grant.id, "revoked") == ended
    assert store.end(grant.id, "expired") is None
    assert store.get(grant.id) == ended
    assert store.of_execution(ROOT) is store.covering(ROOT) is store.extend(grant.id, 3000.0) is None


def test_a_grant_may_be_active_from_the_start_and_be_given_tokens_in_custody(store: Store) -> None:
    grant = deposited(store)
    held = store.of_execution(ROOT)
    assert grant.status == "active"
    assert held
    assert held.tokens == Tokens()
    with store.custody.of(grant.id) as custody:
        assert custody
        custody.keep(TOKENS)
    assert kept(store, grant.id) == TOKENS


def test_what_nobody_knows_is_none(store: Store) -> None:
    assert store.get("none") is store.pending("none") is store.extend("none", 1.0) is store.end("none", "x") is None
    assert store.of_execution(ROOT) is store.covering(ROOT) is store.children.adopt(CHILD, ROOT) is None
    assert store.activate("none", TOKENS) is None
    assert not store.amend("none", Secret("s"))
    store.children.forget(CHILD)
    store.looks.done(ROOT, next_look=1.0, launched=True)
    store.revocations.finished("none", "done")
    store.revocations.failed("none", next_try=1.0)
    with store.custody.of("none") as held:
        assert held is None
    assert store.looks.due(10) == store.due_to_expire(10) == store.revocations.due(10) == []


def test_an_execution_has_one_live_grant_and_may_have_another_after_it(store: Store) -> None:
    first = deposited(store)
    with pytest.raises(Taken) as taken:
        deposited(store, subject="eve")
    assert taken.value.grant == taken.value.again().grant == first
    store.end(first.id, "revoked")
    second = deposited(store, subject="eve")
    assert store.covering(ROOT) == second
    assert store.counts() == {"pending": 0, "active": 1, "ended": 1, "revocation_pending": 0}


def test_a_grant_that_expired_is_not_active_and_makes_room_by_itself(store: Store, clock: Clock) -> None:
    grant, waiting = active(store), deposited(store, "p:d:other", pending=Secret("consent"))
    store.children.adopt(CHILD, ROOT)
    assert store.due_to_expire(10) == []
    clock.moment = 2000.0

    assert store.of_execution(ROOT) is store.of_execution(CHILD) is store.children.adopt("p:d:x", ROOT) is None
    assert store.pending(waiting.id) is store.activate(waiting.id, TOKENS) is store.extend(grant.id, 9000.0) is None
    with store.custody.of(grant.id) as held:
        assert held is None
    assert sorted(store.due_to_expire(10)) == sorted([grant.id, waiting.id])
    assert len(store.due_to_expire(1)) == 1
    assert deposited(store, expires_at=3000.0).status == "active"
    there = store.get(grant.id)
    assert there
    assert (there.status, there.reason, there.revocation) == ("ended", "expired", "pending")


def test_a_grant_is_extended_and_never_shortened(store: Store) -> None:
    grant = active(store)
    for asked, lasts in ((2500.0, 2500.0), (2100.0, 2500.0)):
        extended = store.extend(grant.id, asked)
        assert extended == replace(grant, expires_at=lasts)


def test_a_person_finds_their_own_grants_newest_first(store: Store, clock: Clock) -> None:
    found = []
    for n in range(5):
        clock.moment = 1000.0 + n
        found.append(deposited(store, f"p:d:n{n}"))
    deposited(store, "p:d:eve", subject="eve")
    clock.moment = 1500.0
    store.end(found[0].id, "revoked")

    ids = [grant.id for grant in store.of_subject("ada", ended_since=1500.0, limit=10)]
    assert ids == [grant.id for grant in reversed(found)]
    assert [grant.id for grant in store.of_subject("ada", ended_since=1501.0, limit=3)] == ids[:3]
    assert found[0].id not in [grant.id for grant in store.of_subject("ada", ended_since=1501.0, limit=10)]


def test_a_grant_that_lives_is_listed_before_those_that_ended_after_it(store: Store, clock: Clock) -> None:
    old = deposited(store, "p:d:old")
    for n in range(5):
        clock.moment = 1001.0 + n
        store.end(deposited(store, f"p:d:n{n}").id, "execution_ended")
    clock.moment = 1010.0
    young = deposited(store, "p:d:young")
    found = [grant.execution for grant in store.of_subject("ada", ended_since=0.0, limit=4)]
    assert found == [young.execution, "p:d:n4", "p:d:n3", old.execution]


def test_a_grant_is_there_from_the_moment_its_person_consents(store: Store, clock: Clock) -> None:
    grant = deposited(store, launched=False, pending=Secret("consent"))
    assert store.looks.due(10) == [], "its execution comes after the consent"
    clock.moment = 1500.0
    assert store.overdue_consents(1001.0, 10) == [grant.id]
    assert store.activate(grant.id, TOKENS) == replace(grant, status="active", created_at=1500.0)
    assert [execution for execution, _ in store.looks.due(10)] == [ROOT]


# Children


def test_what_has_begun_is_not_ended_by_who_thinks_that_it_has_not(store: Store) -> None:
    grant = active(store)
    assert store.end(grant.id, "declined") is None
    store.looks.done(ROOT, next_look=2000.0, launched=True)
    assert store.end(grant.id, "never_launched") is None
    assert store.of_execution(ROOT)
    assert store.end(grant.id, "revoked")
    store.looks.done(ROOT, next_look=0.0)  # one that was under way
    assert store.looks.due(8) == []


def test_that_an_execution_had_a_grant_is_remembered_whatever_comes_after(store: Store) -> None:
    def end(reason: str) -> None:
        grant = store.covering(ROOT)
        assert grant
        store.end(grant.id, reason)

    assert store.last_covering(ROOT) is None
    active(store)
    end("revoked")
    for reason in ("declined", "foreign"):
        store.deposit(ROOT, "alice", "cli", (), expires_at=5000.0, launched=True, pending=Secret("c"))
        end(reason)
        found = store.last_covering(ROOT)
        assert found
        assert (found[0].reason, found[1]) == (reason, True)


def test_children_share_their_parents_grant_until_it_ends(store: Store) -> None:
    grant = active(store)
    assert store.children.adopt(CHILD, ROOT) == store.children.adopt(CHILD, ROOT) == replace(grant, children=1)
    assert store.children.adopt("p:d:grandchild", CHILD) == replace(grant, children=2)
    assert store.children.adopt(ROOT, CHILD) == replace(grant, children=2)
    held = store.of_execution("p:d:grandchild")
    assert held
    assert held.tokens == TOKENS
    with pytest.raises(Taken):
        deposited(store, CHILD, subject="eve")

    store.children.forget(CHILD)
    store.children.forget(CHILD)
    store.children.forget(ROOT)
    assert store.get(grant.id) == replace(grant, children=1)
    assert store.of_execution(CHILD) is None
    assert store.of_execution(ROOT)

    ended = store.end(grant.id, "execution_ended")
    assert ended
    assert ended.children == 0
    assert store.of_execution("p:d:grandchild") is None
    assert deposited(store, "p:d:grandchild").status == "active"


def test_a_child_that_has_another_grant_is_not_taken_from_it(store: Store) -> None:
    active(store)
    other = active(store, "p:d:other")
    with pytest.raises(Taken) as taken:
        store.children.adopt("p:d:other", ROOT)
    assert taken.value.grant == other


def test_a_grant_covers_so_many_children_at_one_time_and_no_more(opened: Callable[..., Store]) -> None:
    store = opened("memory")
    active(store)
    for n in range(MOST_CHILDREN):
        store.children.adopt(f"p:d:c{n}", ROOT)
    with pytest.raises(TooMany, match="too many executions"):
        store.children.adopt(CHILD, ROOT)
    assert store.covering(CHILD) is None
    again = store.children.adopt("p:d:c7", ROOT)
    assert again
    assert again.children == MOST_CHILDREN
    store.children.forget("p:d:c7")
    assert store.children.adopt(CHILD, ROOT) == again


def test_children_that_nobody_has_seen_keep_no_other_from_being_looked_at(store: Store, clock: Clock) -> None:
    active(store)
    for n in range(30):
        store.children.adopt(f"p:d:c{n}", ROOT)
    store.looks.done("p:d:c0", next_look=1001.0, launched=True)
    clock.moment = 1001.0
    active(store, "p:d:other")
    due = [execution for execution, _ in store.looks.due(8)]
    assert set(due[:3]) == {ROOT, "p:d:c0", "p:d:other"}
    assert len(due) == len(set(due)) == 8
    for n in range(8):
        active(store, f"p:d:r{n}")
    due = [execution for execution, _ in store.looks.due(8)]
    assert [execution[:5] for execution in due] == ["p:d:r"] * 8 + ["p:d:c"] * 2, "a few of them in any case"


def test_a_pending_grant_adopts_nobody(store: Store) -> None:
    deposited(store, pending=Secret("consent"))
    assert store.children.adopt(CHILD, ROOT) is None


# Custody


def test_what_is_kept_in_custody_is_what_the_next_one_finds(store: Store) -> None:
    grant = active(store)
    rotated = Tokens(Secret("second"), None, (Access(Secret("access"), 1400.0, ()),))
    with store.custody.of(grant.id) as held:
        assert held
        assert (held.grant, held.tokens) == (grant, TOKENS)
        held.keep(rotated)
        found = store.of_execution(ROOT)
        assert found
        assert found.tokens == held.tokens == rotated, "it is there before the block ends"
        held.keep(replace(rotated, refresh=Secret("third")))
    assert kept(store, grant.id).refresh == Secret("third")


def test_custody_that_keeps_nothing_changes_nothing_also_where_it_fails(store: Store) -> None:
    grant = active(store)
    with pytest.raises(ZeroDivisionError), store.custody.of(grant.id):
        raise ZeroDivisionError
    assert kept(store, grant.id) == TOKENS


def test_tokens_of_a_grant_that_ended_in_custody_are_those_to_be_revoked(store: Store) -> None:
    grant = active(store)
    with store.custody.of(grant.id) as held:
        assert held
        assert store.end(grant.id, "revoked"), "whoever ends a grant does not wait for its custody"
        assert store.revocations.due(10) == [], "its refresh token is being spent"
        held.keep(replace(TOKENS, refresh=Secret("newer")))
    ((ended, tokens),) = store.revocations.due(10)
    assert (ended.id, tokens.refresh) == (grant.id, Secret("newer"))


def test_a_refresh_token_that_came_too_late_is_revoked_too(store: Store) -> None:
    grant = deposited(store)
    with store.custody.of(grant.id) as held:
        assert held
        ended = store.end(grant.id, "revoked")
        assert ended
        assert ended.revocation == "none"
        held.keep(TOKENS)
    ((there, tokens),) = store.revocations.due(10)
    assert (there.id, there.revocation, tokens) == (grant.id, "pending", TOKENS)


def test_sixteen_threads_have_custody_one_after_the_other(store: Store) -> None:
    grant = active(store, tokens=Tokens(Secret("0")))
    inside, most = 0, 0

    def rotate(_: int) -> None:
        nonlocal inside, most
        with store.custody.of(grant.id) as held:
            inside += 1
            most = max(most, inside)
            assert held
            assert held.tokens.refresh
            time.sleep(0.002)
            held.keep(Tokens(Secret(str(int(held.tokens.refresh.reveal()) + 1))))
            inside -= 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(rotate, range(48)))
    assert most == 1
    assert kept(store, grant.id).refresh == Secret("48")
    assert len(store.custody._turns) == 0, "locks do not pile up"


def test_threads_that_wait_for_one_grant_leave_connections_for_the_others(
    url: str, opened: Callable[..., Store]
) -> None:
    store = opened(url, pool=4)
    grant, other = active(store), active(store, "p:d:other")
    release = threading.Event()

    def wait(_: int) -> None:
        with store.custody.of(grant.id):
            release.wait(10)

    with ThreadPoolExecutor(50) as pool:
        done = pool.map(wait, range(50))
        time.sleep(0.3)
        started = time.monotonic()
        assert store.of_execution(ROOT)
        assert kept(store, other.id) == TOKENS
        took = time.monotonic() - started
        release.set()
        list(done)
    assert took < 2


def test_sixteen_threads_deposit_for_one_execution_and_one_wins(store: Store) -> None:
    def deposit(n: int) -> str:
        try:
            return deposited(store, subject=f"person-{n}").id
        except Taken as taken:
            return f"taken by {taken.grant.id}"

    with ThreadPoolExecutor(16) as pool:
        answers = Counter(pool.map(deposit, range(16)))
    (winner,) = [answer for answer in answers if not answer.startswith("taken")]
    assert answers == {winner: 1, f"taken by {winner}": 15}
    assert store.counts()["active"] == 1


def test_sixteen_threads_adopt_one_child_end_and_activate_once(store: Store) -> None:
    grant = deposited(store, pending=Secret("consent"))
    with ThreadPoolExecutor(16) as pool:
        assert sum(x is not None for x in pool.map(lambda _: store.activate(grant.id, TOKENS), range(16))) == 1
        assert None not in list(pool.map(lambda _: store.children.adopt(CHILD, ROOT), range(16)))
        there = store.get(grant.id)
        assert there
        assert there.children == 1
        assert sum(x is not None for x in pool.map(lambda _: store.end(grant.id, "revoked"), range(16))) == 1


def test_children_that_come_and_go_while_grants_end_never_lock_each_other_out(store: Store) -> None:
    """Rows are locked in one order everywhere: a deadlock would be a `ProviderUnavailable` here."""

    def live(n: int) -> None:
        root = f"p:d:r{n % 3}"
        try:
            grant = deposited(store, root, pending=Secret("consent"))
            store.activate(grant.id, TOKENS)  # unless another thread has ended it already
        except Taken as taken:
            grant = taken.grant
        store.children.adopt(f"{root}c{n}", root)
        store.looks.done(root, next_look=0.0, launched=True)
        with store.custody.of(grant.id) as held:
            if held:
                held.keep(TOKENS)
        store.looks.due(5)
        store.children.forget(f"{root}c{n}")
        if n % 4 == 0:
            store.end(grant.id, "revoked")
        for ended, _ in store.revocations.due(5):
            store.revocations.finished(ended.id, "done")
        store.sealing.reseal(5)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(live, range(120)))
    assert store.counts()["active"] + store.counts()["pending"] <= 3


# Following, expiring, revoking


def test_an_execution_is_looked_at_by_one_and_again_when_it_is_due(store: Store, clock: Clock) -> None:
    grant = active(store)
    store.children.adopt(CHILD, ROOT)
    due = dict(store.looks.due(10))
    assert due == {ROOT: replace(grant, children=1), CHILD: replace(grant, children=1, launched=False)}
    assert store.looks.due(10) == []

    store.looks.done(CHILD, next_look=1010.0, launched=True)
    clock.moment = 1010.0
    assert store.looks.due(10) == [(CHILD, replace(grant, children=1))]
    clock.moment = 1029.9
    assert store.looks.due(10) == []
    clock.moment = 1030.0
    assert [execution for execution, _ in store.looks.due(10)] == [ROOT], "whoever had it did not come back"
    clock.moment = 1040.0
    assert [execution for execution, _ in store.looks.due(10)] == [CHILD]


def test_a_root_that_was_not_launched_yet_is_seen_launched_for_good(store: Store) -> None:
    grant = deposited(store, launched=False)
    store.looks.done(ROOT, next_look=1010.0)
    assert store.get(grant.id) == grant
    store.looks.done(ROOT, next_look=1010.0, launched=True)
    assert store.get(grant.id) == replace(grant, launched=True)
    store.end(grant.id, "execution_ended")
    ended = store.get(grant.id)
    assert ended
    assert ended.launched


def test_a_refresh_token_is_revoked_until_it_is_done_and_erased_then(store: Store, clock: Clock) -> None:
    grant = active(store)
    store.end(grant.id, "revoked")
    ((ended, tokens),) = store.revocations.due(10)
    assert (ended.id, ended.revocation, tokens) == (grant.id, "pending", TOKENS)
    assert store.revocations.due(10) == []
    store.revocations.failed(grant.id, next_try=1005.0)
    clock.moment = 1005.0
    assert len(store.revocations.due(10)) == 1
    clock.moment = 1065.0
    assert len(store.revocations.due(10)) == 1, "whoever had it did not come back"

    store.revocations.finished(grant.id, "done")
    store.revocations.finished(grant.id, "unsupported")
    there = store.get(grant.id)
    assert there
    assert there.revocation == "done"
    assert store.counts() == {"pending": 0, "active": 0, "ended": 1, "revocation_pending": 0}, "nothing is sealed"


@pytest.mark.parametrize("is_pending", [True, False])
def test_what_cannot_be_revoked_is_erased_when_the_grant_ends(store: Store, is_pending: bool) -> None:
    grant = deposited(store, pending=Secret("consent"))
    if not is_pending:
        store.activate(grant.id, Tokens(accesses=(Access(Secret("access"), None, ()),)))
    assert store.counts()[f"key:{Seal([OLD]).first}"] == 1
    ended = store.end(grant.id, "revoked")
    assert ended
    assert ended.revocation == "none"
    assert f"key:{Seal([OLD]).first}" not in store.counts()
    assert store.revocations.due(10) == []


def test_grants_that_ended_long_ago_are_forgotten_unless_they_are_to_be_revoked(store: Store, clock: Clock) -> None:
    grants = [active(store, f"p:d:n{n}") for n in range(4)]
    for grant in grants[:3]:
        store.end(grant.id, "revoked")
    for grant in grants[:2]:
        store.revocations.finished(grant.id, "done")
    assert store.purge(1000.0, 10) == 0
    clock.moment = 1001.0
    assert (store.purge(1001.0, 1), store.purge(1001.0, 10), store.purge(1001.0, 10)) == (1, 1, 0)
    assert [store.get(grant.id) is None for grant in grants] == [True, True, False, False]


def test_one_grant_can_be_claimed_to_be_revoked_at_once(store: Store) -> None:
    grant = active(store)
    assert store.revocations.claim(grant.id) is store.revocations.claim("none") is None
    with store.custody.of(grant.id):
        store.end(grant.id, "revoked")
        assert store.revocations.claim(grant.id) is None, "its refresh token may be about to be spent"
    assert store.revocations.claim(grant.id) == TOKENS
    assert store.revocations.due(10) == []
    store.revocations.finished(grant.id, "done")
    assert store.revocations.claim(grant.id) is None


def test_consents_that_nobody_gives_are_found(store: Store, clock: Clock) -> None:
    waiting = deposited(store, pending=Secret("consent"))
    active(store, "p:d:other")
    assert store.overdue_consents(1000.0, 10) == []
    assert store.overdue_consents(1000.1, 10) == [waiting.id]
    assert store.overdue_consents(1000.1, 0) == []


# Keys


def test_keys_rotate_while_the_store_is_in_use(store: Store) -> None:
    first, second = active(store), deposited(store, "p:d:other", pending=Secret("consent"))
    old, new = Seal([OLD]).first, Seal([NEW]).first
    assert store.sealing.reseal(10) == 0
    with pytest.raises(ConfigError, match=f"rows under the key {old}, which is not among the keys"):
        store.sealing.check(Seal([NEW]))
    assert kept(store, first.id) == TOKENS, "the keys from before stay"

    store.sealing.check(Seal([NEW, OLD]))
    store.sealing.use(Seal([NEW, OLD]))
    assert kept(store, first.id) == TOKENS
    assert store.counts()[f"key:{old}"] == 2
    assert (store.sealing.reseal(1), store.sealing.reseal(10), store.sealing.reseal(10)) == (1, 1, 0)
    store.sealing.check(Seal([NEW]))
    store.sealing.use(Seal([NEW]))
    assert kept(store, first.id) == TOKENS
    assert store.pending(second.id) == (second, Secret("consent"))
    assert {key: n for key, n in store.counts().items() if key.startswith("key:")} == {f"key:{new}": 2}


def test_ciphertexts_of_another_row_or_column_do_not_open(store: Store, clock: Clock) -> None:
    first, second = active(store), active(store, "p:d:other")
    third = deposited(store, "p:d:third", pending=Secret("consent"))

    def swap(connection):
        a, b = (connection.execute(sql.ANY_OF, {"grant": grant.id}).one() for grant in (first, second))
        values = {"key": Seal([OLD]).first}
        connection.execute(sql.RESEAL, values | {"grant": first.id, "sealed_tokens": b[1], "sealed_consent": None})
        connection.execute(sql.RESEAL, values | {"grant": third.id, "sealed_tokens": None, "sealed_consent": a[1]})

    store._database.write(swap)
    with pytest.raises(ProviderError, match="do not open: they were changed, or moved here"):
        store.of_execution(ROOT)
    with pytest.raises(ProviderError, match="do not open"):
        store.pending(third.id)
    with pytest.raises(ProviderError, match="do not open"), store.custody.of(first.id):
        raise AssertionError
    for grant in (first, second):
        store.end(grant.id, "revoked")
    assert [grant.id for grant, _ in store.revocations.due(10)] == [second.id], "one does not keep up the others"


# The schema


def test_the_schema_itself_forbids_two_live_grants_of_one_execution(store: Store) -> None:
    other = active(store, "p:d:other")
    active(store)
    row = {"execution": ROOT, "grant_id": other.id, "root": False, "launched": True, "next_look": 0.0, "acted": False}
    with pytest.raises(Exception, match=r"(?i)unique"):
        store._database.write(lambda connection: connection.execute(insert(covered), row))


def test_the_migrations_make_the_tables_as_they_are_declared_and_do_nothing_again(store: Store) -> None:
    with store._database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    with store._database._engine.begin() as connection:
        from flytekitplugins.authagent.hub import schema

        schema.migrate(connection, "again")
        assert connection.execute(text("SELECT count(*), min(version_num) FROM alembic_version")).one() == (1, "0001")


def test_a_database_of_a_newer_release_is_left_alone(store: Store) -> None:
    with store._database._engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
        from flytekitplugins.authagent.hub import schema

        with pytest.raises(ConfigError, match="made by a newer release: its schema is 0999, the newest here 0001"):
            schema.migrate(connection, "here")


# Where it is


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://ada:s3cret@host/db",
        "s3cret",
        "sqlite://",
        "sqlite:///relative-s3cret.db",
        "sqlite:////tmp/x.db?mode=s3cret",
        "postgresql://ada:s3cret@host:port/db",
        "postgresql://ada:s3cret@host",
        "postgresql://host/db?password=s3cret",
        "postgresql+asyncpg://ada:s3cret@host/db",
        "POSTGRESQL://ada:s3cret@host/db",
    ],
)
def test_addresses_that_it_does_not_know_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Store(url, Seal([OLD]))
    assert refused.value.hint
    assert "s3cret" not in str(refused.value)


def test_the_password_of_an_address_is_never_shown() -> None:
    store = Store("postgresql://ada:s3cret%40x@127.0.0.1:1/db?sslmode=disable", Seal([OLD]))
    with pytest.raises(ProviderUnavailable) as refused:
        store.start()
    for shown in (repr(store), str(refused.value), repr(refused.value), repr(store._database.address)):
        assert "s3cret" not in shown
    assert repr(store) == "Store('postgresql://ada:***@127.0.0.1:1/db?sslmode=disable')"


# SQLite


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hub.db"


def test_a_file_keeps_everything_over_a_restart(file: Path, opened: Callable[..., Store]) -> None:
    store = opened(f"sqlite:///{file}")
    grant = active(store)
    store.children.adopt(CHILD, ROOT)
    waiting = deposited(store, "p:d:other", pending=Secret("consent"))
    counts = store.counts()
    store.close()

    again = opened(f"sqlite:///{file}")
    held = again.of_execution(CHILD)
    assert held
    assert (held.grant, held.tokens) == (replace(grant, children=1), TOKENS)
    assert again.pending(waiting.id) == (waiting, Secret("consent"))
    assert again.counts() == counts


def test_a_file_holds_no_secret_and_is_ours_alone(file: Path, opened: Callable[..., Store]) -> None:
    file.touch(mode=0o664)
    store = opened(f"sqlite:///{file}")
    active(store)
    deposited(store, "p:d:other", pending=Secret("the-consent"))
    files = sorted(file.parent.glob("hub.db*"))
    assert [path.name for path in files] == ["hub.db", "hub.db-shm", "hub.db-wal", "hub.db.lock"]
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content = path.read_bytes()
        assert not any(secret in content for secret in (b"refresh-token", b"access-token", b"the-consent"))
    assert ROOT.encode() in file.with_name("hub.db-wal").read_bytes() + file.read_bytes()


def test_a_commit_is_on_the_disk(file: Path, opened: Callable[..., Store]) -> None:
    store = opened(f"sqlite:///{file}")
    with store._database._engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert found == ["wal", 2]


def test_a_file_belongs_to_one_store_at_a_time(file: Path, opened: Callable[..., Store]) -> None:
    store = opened(f"sqlite:///{file}")
    with pytest.raises(ConfigError, match="in use by another process"):
        opened(f"sqlite:///{file}")
    other = subprocess.run(
        [sys.executable, "-c", OPEN, f"sqlite:///{file}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "in use by another process" in other.stderr
    assert "several replicas need PostgreSQL" in other.stderr
    store.close()
    opened(f"sqlite:///{file}")


OPEN = """
import sys
from flytekitplugins.authagent.hub.seal import Key, Seal
from flytekitplugins.authagent.hub.store import Store
store = Store(sys.argv[1], Seal([Key(bytes([1]) * 32)]), now=lambda: 1000.0)
store.start()
"""

HOLD = (
    OPEN
    + """
with store.custody.of(sys.argv[2]) as held:
    print(held is not None, flush=True)
    sys.stdin.read()
"""
)

FILL = (
    OPEN
    + """
import resource, signal
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ProviderUnavailable
from flytekitplugins.authagent.hub.store import Tokens
grant = store.deposit("p:d:n", "ada", "cli", (), expires_at=2000.0, launched=True, pending=None)
last = Tokens(Secret("first"))
with store.custody.of(grant.id) as held:
    held.keep(last)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
failed = None
for n in range(100):
    with store.custody.of(grant.id) as held:
        new = Tokens(Secret(str(n) + "x" * 30_000))
        try:
            held.keep(new)
        except ProviderUnavailable as full:
            assert held.tokens == last and store.of_execution("p:d:n").tokens == last
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            held.keep(new)
            failed = n
            print(full)
        last = new
    assert store.of_execution("p:d:n").tokens == last
    if failed is not None:
        break
else:
    raise AssertionError("the disk was never full")
"""
)


def test_a_disk_that_is_full_loses_nothing_and_what_was_not_kept_can_be_kept_later(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, f"sqlite:///{file}"], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search("full|disk I/O", done.stdout)


def test_pages_that_run_out_are_the_same(file: Path, opened: Callable[..., Store]) -> None:
    store = opened(f"sqlite:///{file}", pool=1)
    grant = active(store)
    with store._database._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1")  # as many as there are
    with store.custody.of(grant.id) as held:
        assert held
        with pytest.raises(ProviderUnavailable, match="database or disk is full"):
            held.keep(replace(TOKENS, accesses=(Access(Secret("x" * 100_000), None, ()),)))
    assert kept(store, grant.id) == TOKENS


@pytest.mark.parametrize("fault", ["loose directory", "no directory", "a directory", "a link", "not a database"])
def test_files_that_cannot_be_trusted_or_used_are_refused(fault: str, file: Path, opened: Callable[..., Store]) -> None:
    match fault:
        case "loose directory":
            file.parent.chmod(0o777)
        case "no directory":
            file = file.parent / "none" / "hub.db"
        case "a directory":
            file.mkdir()
        case "a link":
            file.symlink_to(file.parent / "elsewhere")
        case "not a database":
            file.write_bytes(b"something else" * 1000)
    with pytest.raises((ConfigError, ProviderError)) as refused:
        opened(f"sqlite:///{file}")
    assert str(file) in str(refused.value) or str(file.parent) in str(refused.value)
    file.parent.exists() and file.parent.chmod(0o700)


@pytest.mark.parametrize("url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)], indirect=True)
def test_a_wrong_key_is_an_error_at_the_start(url: str, opened: Callable[..., Store]) -> None:
    store = opened(url)
    active(store)
    store.close()
    with pytest.raises(ConfigError, match=r"has rows under the key [0-9a-f]{16}, which is not among the keys") as wrong:
        opened(url, WRONG)
    assert PASSWORD not in str(wrong.value)
    assert kept(opened(url, NEW, OLD), store.of_subject("ada", ended_since=0.0, limit=1)[0].id) == TOKENS


def test_a_key_whose_check_does_not_open_is_an_error_at_the_start(file: Path, opened: Callable[..., Store]) -> None:
    opened(f"sqlite:///{file}").close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE checks SET sealed = CAST(substr(sealed, 1, 21) || zeroblob(30) AS BLOB)")
    connection.close()
    with pytest.raises(ConfigError, match="does not open under the key of its id"):
        opened(f"sqlite:///{file}")


def test_the_hot_paths_use_indexes(file: Path, opened: Callable[..., Store]) -> None:
    store = opened(f"sqlite:///{file}")
    values = {"moment": 0.0, "which": "x", "grant": "x", "most": 1, "whose": "x", "since": 0.0, "before": 0.0}
    statements = [
        sql.OVERDUE,
        sql.LONG_ENDED,
        sql.OF_SUBJECT,
        sql.OF_EXECUTION,
        sql.GET,
        sql.COVERING,
        sql.TO_EXPIRE,
        sql.DUE_TO_FOLLOW,
        sql.DUE_TO_BE_SEEN,
        sql.DUE_TO_REVOKE,
    ]
    with store._database._engine.connect() as connection:
        for statement in statements:
            words = str(statement.compile(store._database._engine, compile_kwargs={"render_postcompile": True}))
            compiled = statement.compile(store._database._engine)
            given = tuple(
                (values | compiled.params)[n] if compiled.params[n] is not None else values[n]
                for n in compiled.positiontup
            )
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {words}", given).all()
            assert not [row for row in plan if row[-1].startswith("SCAN")], (words, plan)


# PostgreSQL


@pytest.mark.peer
def test_two_replicas_have_custody_one_after_the_other(postgres: Postgres, opened: Callable[..., Store]) -> None:
    url = postgres.new_database()
    replicas = [opened(url), opened(url)]
    grant = active(replicas[0], tokens=Tokens(Secret("0")))
    inside, most = 0, 0

    def rotate(n: int) -> None:
        nonlocal inside, most
        with replicas[n % 2].custody.of(grant.id) as held:
            inside += 1
            most = max(most, inside)
            assert held
            assert held.tokens.refresh
            time.sleep(0.002)
            inside -= 1
            held.keep(Tokens(Secret(str(int(held.tokens.refresh.reveal()) + 1))))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(rotate, range(48)))
    assert most == 1
    assert kept(replicas[1], grant.id).refresh == Secret("48")


@pytest.mark.peer
def test_two_replicas_share_the_work_and_do_none_twice(postgres: Postgres, opened: Callable[..., Store]) -> None:
    url = postgres.new_database()
    replicas = [opened(url), opened(url)]
    for n in range(100):
        grant = active(replicas[0], f"p:d:n{n}")
        if n % 2:
            replicas[1].end(grant.id, "revoked")

    with ThreadPoolExecutor(8) as pool:
        looks = [look for found in pool.map(lambda n: replicas[n % 2].looks.due(7), range(40)) for look in found]
        due = [one for found in pool.map(lambda n: replicas[n % 2].revocations.due(7), range(40)) for one in found]
    assert Counter(execution for execution, _ in looks) == Counter(f"p:d:n{n}" for n in range(0, 100, 2))
    assert Counter(grant.execution for grant, _ in due) == Counter(f"p:d:n{n}" for n in range(1, 100, 2))


@pytest.mark.peer
def test_keys_rotate_over_two_replicas_without_a_moment_in_which_one_cannot_open(
    postgres: Postgres, opened: Callable[..., Store]
) -> None:
    url = postgres.new_database()
    one, two = opened(url, OLD), opened(url, OLD)
    grant = active(one)
    for keys in ([OLD, NEW], [NEW, OLD], [NEW]):  # everywhere, before the next one
        for replica, other in ((one, two), (two, one)):
            replica.sealing.check(Seal(keys))
            replica.sealing.use(Seal(keys))
            with replica.custody.of(grant.id) as held:
                assert held
                held.keep(replace(held.tokens, accesses=(Access(Secret(f"of {len(keys)}"), None, ()),)))
            assert kept(other, grant.id) == kept(replica, grant.id)
        one.sealing.reseal(10)


@pytest.mark.peer
def test_the_lock_of_a_replica_that_is_killed_is_gone_at_once(postgres: Postgres, opened: Callable[..., Store]) -> None:
    url = postgres.new_database()
    store = opened(url)
    grant = active(store)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, url, grant.id], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "True\n"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(kept, store, grant.id)
            time.sleep(0.5)
            assert not waiting.done()
            holder.kill()
            assert waiting.result(timeout=3) == TOKENS
    finally:
        holder.kill()
        holder.communicate(timeout=10)


@pytest.mark.peer
def test_custody_is_not_waited_for_without_end(
    postgres: Postgres, opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flytekitplugins.authagent.hub.database._SESSION", {"lock_timeout": "300ms"})
    url = postgres.new_database()
    one, two = opened(url), opened(url)
    grant = active(one)
    with one.custody.of(grant.id):
        with pytest.raises(ProviderUnavailable, match="lock timeout"), two.custody.of(grant.id):
            raise AssertionError
        assert two.of_execution(ROOT), "looking does not wait"


@pytest.mark.peer
def test_a_server_that_restarts_is_unavailable_and_then_there_again(
    postgres: Postgres, opened: Callable[..., Store]
) -> None:
    store = opened(postgres.new_database())
    grant = active(store)
    with ThreadPoolExecutor(8) as pool:  # some connections, which are about to die in the pool
        list(pool.map(lambda _: store.of_execution(ROOT), range(64)))

    postgres.stop()
    postgres.start()
    assert store.of_execution(ROOT), "a dead connection is replaced without a word"
    postgres.stop()
    postgres.start()
    assert store.extend(grant.id, 2500.0), "also for a change"

    with store.custody.of(grant.id) as held:
        assert held
        postgres.stop()
        try:
            for use in (
                lambda: held.keep(replace(TOKENS, refresh=Secret("rotated"))),
                lambda: store.of_execution(ROOT),
                lambda: store.extend(grant.id, 2600.0),
                store.start,
            ):
                with pytest.raises(ProviderUnavailable) as refused:
                    use()
                assert PASSWORD not in str(refused.value)
        finally:
            postgres.start()
        held.keep(replace(TOKENS, refresh=Secret("rotated")))
    assert kept(store, grant.id).refresh == Secret("rotated")


@pytest.mark.peer
def test_what_somebody_kept_meanwhile_is_not_overwritten(postgres: Postgres, opened: Callable[..., Store]) -> None:
    url = postgres.new_database()
    one, two = opened(url), opened(url)
    grant = active(one)
    with one.custody.of(grant.id) as held:
        assert held
        postgres.stop()
        try:
            with pytest.raises(ProviderUnavailable):
                held.keep(replace(TOKENS, refresh=Secret("of the first")))
        finally:
            postgres.start()
        with two.custody.of(grant.id) as other:
            assert other
            other.keep(replace(TOKENS, refresh=Secret("of the second")))
        held.keep(replace(TOKENS, refresh=Secret("of the first")))
    assert kept(one, grant.id).refresh == Secret("of the second")


@pytest.mark.peer
def test_replicas_that_start_at_once_on_an_empty_database_all_come_up(postgres: Postgres, clock: Clock) -> None:
    url = postgres.new_database()
    stores = [Store(url, Seal([OLD]), now=clock) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(Store.start, stores))
    active(stores[0])
    assert stores[5].of_execution(ROOT)
    assert postgres.sql("SELECT version_num FROM alembic_version", url) == "0001"
    for store in stores:
        store.close()


@pytest.mark.peer
def test_a_wrong_password_or_database_is_an_error_of_the_configuration(postgres: Postgres) -> None:
    for url, says in (
        (postgres.url(password="wr0ng"), "password authentication failed"),
        (postgres.url("none"), "does not exist"),
        (postgres.url() + "?nonsense=1", "nonsense"),
    ):
        with pytest.raises(ConfigError, match=says) as refused:
            Store(url, Seal([OLD])).start()
        assert "wr0ng" not in str(refused.value)
        assert PASSWORD not in str(refused.value)


@pytest.mark.peer
def test_a_pool_that_is_used_up_is_unavailable_in_time(
    postgres: Postgres, opened: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flytekitplugins.authagent.hub.database.CHECKOUT", 0.2)
    store = opened(postgres.new_database(), pool=2)
    with store._database._engine.connect(), pytest.raises(ProviderUnavailable, match="no connection"):
        store.of_execution(ROOT)
    assert store.of_execution(ROOT) is None


@pytest.mark.peer
def test_nothing_secret_is_in_a_dump(postgres: Postgres, opened: Callable[..., Store]) -> None:
    url = postgres.new_database()
    active(opened(url))
    dump = subprocess.run([postgres.bin / "pg_dump", url], capture_output=True, check=True, timeout=60).stdout
    assert ROOT.encode() in dump
    for secret in (b"the-refresh-token", b"the-access-token"):
        assert secret not in dump
        assert secret.hex().encode() not in dump
