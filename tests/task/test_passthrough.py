"""Headers that the code sets itself, on the wire of a real Flyte."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from flyteidl.admin import project_pb2
from flyteidl.service import admin_pb2_grpc
from flytekit import task

from flytekitplugins.authagent import AuthAgent, ConfigError, NoCredential, auth_metadata
from flytekitplugins.authagent.flyte import Platform
from flytekitplugins.authagent.handle import Handle
from flytekitplugins.authagent.passthrough import current


class Flyte(admin_pb2_grpc.AdminServiceServicer):
    """Says yes, and remembers what it was sent."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []

    def ListProjects(self, request: Any, context: Any) -> Any:
        self.seen.append({k: v for k, v in context.invocation_metadata() if k not in ("accept", "user-agent")})
        return project_pb2.Projects()


@pytest.fixture
def flyte() -> Iterator[Flyte]:
    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    it = Flyte()
    admin_pb2_grpc.add_AdminServiceServicer_to_server(it, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    os.environ.update(FLYTE_PLATFORM_URL=f"127.0.0.1:{port}", FLYTE_PLATFORM_INSECURE="1")
    os.environ["AUTHAGENT_PROVIDER"] = "passthrough"
    yield it
    server.stop(0).wait(5)


def test_all_of_them_are_sent_and_nothing_of_ours(flyte: Flyte) -> None:
    with auth_metadata(("Authorization", "Bearer a"), ("cookie", "b=c")):
        Handle(AuthAgent()).remote().client.list_projects_paginated()
    assert flyte.seen == [{"authorization": "Bearer a", "cookie": "b=c"}]


def test_inside_a_task_too(flyte: Flyte) -> None:
    @task(task_config=AuthAgent("passthrough"))
    def f() -> None:
        from flytekit import current_context

        mine = current_context().remote
        with auth_metadata([("authorization", "Bearer task")]):
            mine.client.list_projects_paginated()

    f()
    assert flyte.seen == [{"authorization": "Bearer task"}]


def test_they_belong_to_one_thread_and_to_one_coroutine(flyte: Flyte) -> None:
    mine = Handle(AuthAgent()).remote()

    async def one(name: str) -> None:
        with auth_metadata(("authorization", f"Bearer {name}")):
            await asyncio.sleep(0.01)
            mine.client.list_projects_paginated()
            await asyncio.sleep(0.01)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(f"c{n}") for n in range(5)))

    asyncio.run(all_of_them())
    errors: list[Exception] = []

    def without() -> None:
        try:
            mine.client.list_projects_paginated()
        except Exception as error:
            errors.append(error)

    with auth_metadata(("authorization", "Bearer main")):
        thread = threading.Thread(target=without)
        thread.start()
        thread.join(20)
        mine.client.list_projects_paginated()
    assert sorted(seen["authorization"] for seen in flyte.seen) == [
        f"Bearer {n}" for n in ("c0", "c1", "c2", "c3", "c4", "main")
    ]
    assert len(errors) == 1
    assert "no headers are set here" in str(errors[0])


def test_an_inner_block_replaces_the_outer_and_its_end_restores_it() -> None:
    with auth_metadata(("a", "1")):
        with auth_metadata(("b", "2")):
            assert [name for name, _ in current()] == ["b"]
        assert [name for name, _ in current()] == ["a"]
    with pytest.raises(NoCredential):
        current()


@pytest.mark.parametrize(
    "pairs",
    [
        (),
        ([],),
        (("a", "pl4nted\r\nx: y"),),
        (("a\r\n", "pl4nted"),),
        (("grpc-timeout", "pl4nted"),),
        (("a-bin", "pl4nted"),),
        ((":path", "pl4nted"),),
        (("a", ""),),
        (("a", "pl4nted" + "x" * 40_000),),
        (("a", "pl4nt\u00e9d"),),
        (("a", 5),),
        (("a", "b", "c"),),
        ("ab",),
    ],
)
def test_what_cannot_be_sent_is_an_error_that_does_not_show_it(pairs: tuple[Any, ...]) -> None:
    with pytest.raises(ConfigError) as caught, auth_metadata(*pairs):
        pytest.fail("it was taken")
    assert "pl4nted" not in str(caught.value)


def test_flytekits_own_client_sends_one_of_them_and_says_so_of_more(flyte: Flyte) -> None:
    from flytekit.configuration import Config
    from flytekit.remote import FlyteRemote

    os.environ["FLYTE_CREDENTIALS_AUTH_MODE"] = "authagent"
    its = FlyteRemote(Config.auto())
    assert not isinstance(its.config.platform, Platform)
    with auth_metadata(("x-token", "one")):
        its.client.list_projects_paginated()
    assert flyte.seen == [{"x-token": "one"}]
    with auth_metadata(("x-token", "one"), ("cookie", "two")), pytest.raises(Exception, match="sends one header"):
        its.client.list_projects_paginated()
