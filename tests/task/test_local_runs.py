"""Every kind of task, run locally against a Flyte that wants a token: the first RPC has one, none is rejected."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import pickle
import threading
from typing import Any

import flytekit
import fsspec
import pytest
import requests
from flyte_place import DOMAIN, PROJECT, Place, use
from flytekit import dynamic, map_task, task, workflow
from flytekit.models.core.identifier import WorkflowExecutionIdentifier
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent import AuthAgent, ConfigError, NoCredential, Rejected, TokenRequest, authenticated, eager
from flytekitplugins.authagent import remote as remotes

DEFAULT = remotes.default()


def ask(remote: FlyteRemote) -> str:
    """One RPC that costs Flyte next to nothing."""
    return str(len(remote.list_projects()))


@pytest.fixture(autouse=True)
def laptop(place: Place) -> None:
    """This process is a client of the place, with a token in a file."""
    use(place.client())


@task(task_config=AuthAgent())
def plain(x: int) -> str:
    return ask(flytekit.current_context().remote)


@task(task_config=AuthAgent())
async def asynchronous(x: int) -> str:
    return ask(flytekit.current_context().remote)


@task(task_config=AuthAgent(), enable_deck=True, retries=2, cache=False)
def with_deck(x: int) -> str:
    return ask(flytekit.current_context().remote)


@task(task_config=AuthAgent())
def two(x: int, y: int) -> str:
    return ask(flytekit.current_context().remote)


@dynamic(task_config=AuthAgent())
def dynamically(x: int) -> str:
    assert flytekit.current_context().remote is not None
    return plain(x=x)


@workflow
def mapped() -> list[str]:
    return map_task(plain)(x=[1, 2, 3])


@workflow
def partly_mapped() -> list[str]:
    return map_task(functools.partial(two, y=1))(x=[1, 2, 3])


@eager
async def eagerly(x: int) -> str:
    assert flytekit.current_context().remote is not None
    return await asynchronous(x=x)


@task
@authenticated
def below(x: int) -> str:
    return ask(flytekit.current_context().remote)


@task
@authenticated(AuthAgent("file"))
async def asynchronously_below(x: int) -> str:
    return ask(flytekit.current_context().remote)


KINDS: dict[str, tuple[Any, int]] = {
    "def": (lambda: plain(x=1), 1),
    "async def": (lambda: asyncio.run(asynchronous(x=1)), 1),
    "deck": (lambda: with_deck(x=1), 1),
    "dynamic": (lambda: dynamically(x=1), 1),
    "map": (mapped, 3),
    "partial map": (partly_mapped, 3),
    "eager": (lambda: asyncio.run(eagerly(x=1)), 1),
    "@authenticated": (lambda: below(x=1), 1),
    "async @authenticated": (lambda: asyncio.run(asynchronously_below(x=1)), 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_task_calls_flyte_with_a_token_from_the_first_rpc_on(kind: str, place: Place) -> None:
    run, calls = KINDS[kind]

    assert run()

    assert place.calls("batch")["ListProjects"] == {"accepted": calls, "rejected": 0}
    assert place.rejected() == 0


def test_the_remote_is_a_flyte_remote_of_the_configured_endpoint(place: Place) -> None:
    @authenticated(AuthAgent(project="mine", domain="staging"))
    def look() -> FlyteRemote:
        return flytekit.current_context().remote

    @authenticated
    def look_again() -> tuple[str, str]:
        return flytekit.current_context().remote.default_project, flytekit.current_context().remote.default_domain

    remote = look()
    assert isinstance(remote, FlyteRemote)
    assert (remote.default_project, remote.default_domain) == ("mine", "staging")
    assert remote.config.platform.endpoint == place.plane.endpoint
    assert look_again() == (PROJECT, DOMAIN)


def test_a_task_that_never_touches_its_remote_sends_nothing_at_all(place: Place) -> None:
    @task(task_config=AuthAgent())
    def idle() -> int:
        return 1

    assert idle() == 1
    assert place.counts.snapshot()["rpcs"] == {}


def test_prefetch_obtains_the_credential_before_the_function_starts_and_without_an_rpc(place: Place) -> None:
    ran: list[int] = []

    @authenticated(AuthAgent(prefetch=True))
    def work() -> None:
        ran.append(1)

    use({"AUTHAGENT_CONFIG": str(place.client_credentials())})
    work()
    assert place.counts.snapshot()["mints"] == {"batch": 1}
    assert place.counts.snapshot()["rpcs"] == {}

    os.environ.pop("AUTHAGENT_CONFIG")
    os.environ["AUTHAGENT_PROVIDER"] = "env"
    with pytest.raises(NoCredential, match="AUTHAGENT_TOKEN is not set"):
        work()
    assert ran == [1]


def test_everybody_in_the_process_shares_one_mint(place: Place) -> None:
    use({"AUTHAGENT_CONFIG": str(place.client_credentials())})
    barrier = threading.Barrier(50)

    @authenticated
    def work() -> str:
        barrier.wait(30)
        return ask(flytekit.current_context().remote)

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert len(list(pool.map(lambda _: work(), range(50)))) == 50

    assert place.counts.snapshot()["mints"] == {"batch": 1}
    assert place.rejected() == 0


def test_fifty_coroutines_share_one_mint(place: Place) -> None:
    use({"AUTHAGENT_CONFIG": str(place.client_credentials())})

    @authenticated
    async def work() -> str:
        return await asyncio.to_thread(lambda: ask(flytekit.current_context().remote))

    async def everybody() -> list[str]:
        return list(await asyncio.gather(*(work() for _ in range(50))))

    assert len(asyncio.run(everybody())) == 50
    assert place.counts.snapshot()["mints"] == {"batch": 1}
    assert place.rejected() == 0


def test_a_default_remote_held_by_a_module_works_in_tasks_threads_and_forks(place: Place) -> None:
    @authenticated
    def work() -> list[str]:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            threads = list(pool.map(lambda _: ask(DEFAULT), range(8)))
        return [*threads, forked()]

    def forked() -> str:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, ask(DEFAULT).encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            return answer.read()

    assert len(set(work())) == 1
    assert place.calls("batch")["ListProjects"]["accepted"] >= 9
    assert place.rejected() == 0


def test_a_default_remote_is_a_flyte_remote_that_pickles_and_builds_nothing_by_itself(place: Place) -> None:
    assert isinstance(DEFAULT, FlyteRemote)
    assert isinstance(pickle.loads(pickle.dumps(DEFAULT)), FlyteRemote)
    assert repr(DEFAULT) == "remote.default()"
    assert place.counts.snapshot()["rpcs"] == {}

    assert ask(DEFAULT)
    assert place.rejected() == 0


def test_flyte_paths_are_given_back_when_the_task_ends(place: Place) -> None:
    before = fsspec.registry.get("flyte")

    @authenticated
    def work() -> type:
        assert flytekit.current_context().remote is not None
        return fsspec.registry["flyte"]

    during = work()

    assert during is not before
    assert fsspec.registry.get("flyte") is not during
    if before is None:
        with pytest.raises(ConfigError, match="there is none here"):
            fsspec.filesystem("flyte")


def test_further_tokens_are_fresh_texts_and_never_flytes_token_for_another_audience(place: Place) -> None:
    @authenticated(AuthAgent(tokens={"flyte": TokenRequest(), "lake": TokenRequest(audience="https://lake")}))
    def work(name: str) -> tuple[str, list[str], str]:
        tokens = flytekit.current_context().tokens
        return tokens[name], sorted(tokens), repr(tokens)

    token, names, shown = work("flyte")
    assert token == place.token_file.read_text()
    assert names == ["flyte", "lake"]
    assert token not in shown
    with pytest.raises(Exception, match="does not say that it is for the audience 'https://lake'"):
        work("lake")


def test_a_rejection_that_is_over_costs_one_more_rpc(place: Place) -> None:
    @authenticated
    def work() -> str:
        return ask(flytekit.current_context().remote)

    place.faults.put({"reject_rpc": 1})
    assert work()

    assert place.calls("batch")["ListProjects"] == {"accepted": 1, "rejected": 1}


@pytest.mark.parametrize("source", ["file", "client_credentials"])
def test_a_rejection_that_stays_costs_two_rpcs_and_at_most_one_mint_a_call(source: str, place: Place) -> None:
    if source == "client_credentials":
        use({"AUTHAGENT_CONFIG": str(place.client_credentials())})

    @authenticated
    def work() -> str:
        return ask(flytekit.current_context().remote)

    place.faults.put({"reject_rpc": -1})
    for _ in range(3):
        place.counts.reset()
        with pytest.raises(Rejected, match=r"Flyte at 127.0.0.1:\d+ rejected the credential from \w+: ") as refused:
            work()
        counts = place.counts.snapshot()
        assert counts["rpcs"]["ListProjects"] == {"accepted": 0, "rejected": 2}
        assert sum(counts["mints"].values()) <= 1
        assert place.token_file.read_text() not in str(refused.value)


def test_our_error_is_the_cause_of_flytekits_inside_and_itself_outside(place: Place) -> None:
    seen: list[BaseException] = []

    @authenticated
    def work() -> None:
        try:
            ask(flytekit.current_context().remote)
        except Exception as error:
            seen.append(error)
            raise

    place.faults.put({"reject_rpc": -1})
    with pytest.raises(Rejected):
        work()

    assert type(seen[0]).__name__ == "FlyteSystemException"
    assert isinstance(seen[0].__cause__, Rejected)


def test_a_token_without_the_scope_all_is_not_even_replayed(place: Place) -> None:
    secret = place.issuer.clients["batch"].secret
    answer = requests.post(
        place.issuer.token_endpoint,
        data={"grant_type": "client_credentials", "scope": "offline"},
        auth=("batch", secret.reveal()),
        timeout=10,
    )
    place.write_token(answer.json()["access_token"])
    place.counts.reset()

    @authenticated
    def work() -> str:
        return ask(flytekit.current_context().remote)

    with pytest.raises(Rejected, match=r"doesn't have required scope.*scope `all`"):
        work()
    assert place.counts.snapshot()["rpcs"]["ListProjects"] == {"accepted": 0, "rejected": 1}


def test_an_error_that_is_not_about_credentials_is_left_alone(place: Place) -> None:
    @authenticated
    def work() -> None:
        flytekit.current_context().remote.client.get_execution(WorkflowExecutionIdentifier("p", "d", "nobody"))

    with pytest.raises(Exception, match="NOT_FOUND"):
        work()
    assert place.rejected() == 0


def test_no_token_goes_over_plaintext_to_a_host_that_is_not_loopback(place: Place) -> None:
    @authenticated(AuthAgent(endpoint="flyte.example.com:80"))
    def work() -> FlyteRemote:
        return flytekit.current_context().remote

    with pytest.raises(ConfigError, match=r"plaintext.*AUTHAGENT_ALLOW_PLAINTEXT=flyte.example.com"):
        work()
    use({"AUTHAGENT_ALLOW_PLAINTEXT": "flyte.example.com"})
    assert work().config.platform.endpoint == "flyte.example.com:80"


def test_outside_a_task_flytes_own_configuration_serves_where_nothing_of_ours_is_configured(place: Place) -> None:
    for name in ("AUTHAGENT_TOKEN_FILE", "FLYTE_CREDENTIALS_AUTH_MODE"):
        os.environ.pop(name)
    use({"FLYTE_CREDENTIALS_AUTH_MODE": "ExternalCommand", "FLYTE_CREDENTIALS_COMMAND": f"cat,{place.token_file}"})

    assert ask(remotes.default())
    assert place.calls("batch")["ListProjects"]["accepted"] == 1
