"""Real plugins run the task, and its remote is there: by `inner=`, and by `@authenticated` below them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from typing import Any

import flytekit
import pytest
from flyte_place import Place, use
from flytekit import task
from flytekit.configuration import Image, ImageConfig, SerializationSettings
from flytekit.core.python_function_task import AsyncPythonFunctionTask
from flytekit.core.task import TaskPlugins
from flytekitplugins.dask import Dask
from flytekitplugins.kftensorflow import PS, Chief, TfJob, Worker
from peers import need

from flytekitplugins.authagent import AuthAgent, ConfigError, authenticated
from flytekitplugins.authagent import remote as remotes


@pytest.fixture(autouse=True)
def laptop(place: Place) -> None:
    """This process is a client of the place."""
    use(place.client())


def ask() -> int:
    """One RPC by the task's remote."""
    return len(flytekit.current_context().remote.list_projects())


def tensorflow() -> TfJob:
    """The smallest job that the plugin accepts."""
    return TfJob(chief=Chief(replicas=1), ps=PS(replicas=1), worker=Worker(replicas=1))


def both_ways(config: Callable[[], Any], function: Callable[[], Any]) -> list[Any]:
    """The same function as a task by `inner=`, and by `@authenticated` below the plugin's own."""
    return [task(function, task_config=AuthAgent(inner=config())), task(authenticated(function), task_config=config())]


SETTINGS = SerializationSettings(
    project="p", domain="d", version="v", image_config=ImageConfig(Image("default", "example.com/image", "1"))
)


def test_dask_runs_the_task_and_its_workers_find_the_remote_too(place: Place) -> None:
    from distributed import Client, LocalCluster

    def look_up(_: int) -> int:
        return len(remotes.default().list_projects())

    def work() -> list[int]:
        with LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster, Client(cluster) as client:
            return [ask(), *client.gather(client.map(look_up, range(4)))]

    inner, below = both_ways(Dask, work)

    assert inner() == [1] * 5
    assert below() == [1] * 5
    assert place.calls("batch")["ListProjects"] == {"accepted": 10, "rejected": 0}
    assert {inner.task_type, below.task_type} == {"dask"}
    assert inner.get_custom(SETTINGS) == below.get_custom(SETTINGS)
    assert inner.environment == {"FLYTE_CREDENTIALS_AUTH_MODE": "authagent"}


def test_a_kubeflow_job_runs_the_task(place: Place) -> None:
    inner, below = both_ways(tensorflow, ask)

    assert [inner(), below()] == [1, 1]
    assert place.calls("batch")["ListProjects"] == {"accepted": 2, "rejected": 0}
    assert {inner.task_type, below.task_type} == {"tensorflow"}
    assert inner.get_custom(SETTINGS) == below.get_custom(SETTINGS)


@pytest.mark.timeout(180)
@pytest.mark.peer
def test_spark_runs_the_task_with_its_session_and_our_remote(place: Place) -> None:
    need("Java, for Spark", shutil.which("java"))
    from flytekitplugins.spark import Spark

    def work() -> list[int]:
        session = flytekit.current_context().spark_session
        return [session.sparkContext.parallelize(range(4)).sum(), ask()]

    def local() -> Spark:
        return Spark(spark_conf={"spark.master": "local[1]", "spark.ui.enabled": "false"})

    inner, below = both_ways(local, work)

    assert inner() == [6, 1]
    assert below() == [6, 1]
    assert place.calls("batch")["ListProjects"] == {"accepted": 2, "rejected": 0}
    assert {inner.task_type, below.task_type} == {"spark"}


class Sleeping:
    """The configuration of an asynchronous plugin, of which flytekit ships none."""


class SleepingTask(AsyncPythonFunctionTask):
    """Runs the function after a while."""

    async def async_execute(self, *args: Any, **inputs: Any) -> Any:
        await asyncio.sleep(0)
        return await self._task_function(**inputs)


TaskPlugins.register_pythontask_plugin(Sleeping, SleepingTask)


def test_an_asynchronous_plugin_runs_an_async_function(place: Place) -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return ask()

    inner, below = both_ways(Sleeping, work)

    assert asyncio.run(inner()) == 1
    assert asyncio.run(below()) == 1
    assert type(inner) is SleepingTask


def test_an_async_function_with_a_plugin_that_cannot_run_one_is_refused_at_its_declaration() -> None:
    async def work() -> int:
        return 1

    with pytest.raises(ConfigError, match="the plugin of Dask cannot run an async function"):
        task(work, task_config=AuthAgent(inner=Dask()))
