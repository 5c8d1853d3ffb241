"""Wrong use fails where it is written, by name, and repeats no secret."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import cloudpickle
import pytest
from flyteidl.core.workflow_pb2 import ArrayNode
from flytekit import dynamic, map_task, task
from flytekit.core.array_node_map_task import ArrayNodeMapTask
from flytekit.core.python_function_task import AsyncPythonFunctionTask, PythonFunctionTask
from flytekit.models.security import Identity, OAuth2Client

from flytekitplugins.authagent import AuthAgent, ConfigError, TokenRequest, authenticated, eager

JWT = ".".join(("eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJhIn0", "c2lnbmF0dXJl"))


def test_the_class_in_the_place_of_an_instance_is_refused_for_every_kind_of_function() -> None:
    def plain() -> int:
        return 1

    async def asynchronous() -> int:
        return 1

    for function in (plain, asynchronous):
        with pytest.raises(ConfigError, match=rf"{function.__name__}: task_config is the class AuthAgent"):
            task(function, task_config=AuthAgent)
    with pytest.raises(ConfigError, match="is the class AuthAgent"):
        dynamic(plain, task_config=AuthAgent)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"provider": "keyrin"}, "there is no provider 'keyrin'"),
        ({"provider": JWT}, "there is no provider that name"),
        ({"provider": 7}, "there is no provider that name"),
        ({"client_secret": "hunter2hunter2"}, "has no option 'client_secret'"),
        ({"scope": "all"}, "has no option 'scope'"),
        ({"scopes": "all"}, "scopes=...\\) must be a list"),
        ({"scopes": ["all offline"]}, "scopes=...\\) must be a list"),
        ({"endpoint": "https://user:hunter2hunter2@flyte.example.com"}, "is not a Flyte endpoint"),
        ({"endpoint": ""}, "endpoint=...\\) must be text"),
        ({"audience": 3}, "audience=...\\) must be text"),
        ({"run_as": "alice"}, "must be a flytekit.models.security.Identity"),
        ({"run_as": Identity(oauth2_client=OAuth2Client("batch", "hunter2hunter2"))}, "holds the secret"),
        ({"tokens": {"warehouse": JWT}}, "warehouse must be a TokenRequest"),
        ({"tokens": [JWT]}, "must map names"),
        ({"inner": 3}, "no task plugin is registered for int"),
        ({"inner": AuthAgent()}, "says twice"),
        ({"inner": dict}, "inner=dict\\) is a class"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_refused_by_name_and_repeats_no_secret(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as refused:
        AuthAgent(**options)

    shown = str(refused.value)
    assert "hunter2hunter2" not in shown
    assert JWT not in shown


def test_auth_agent_cannot_be_subclassed_because_flytekit_would_ignore_the_subclass() -> None:
    with pytest.raises(ConfigError, match="cannot be subclassed"):
        type("Mine", (AuthAgent,), {})


def test_authenticated_above_task_says_where_it_belongs() -> None:
    @task
    def below() -> int:
        return 1

    with pytest.raises(ConfigError, match="stands above @task"):
        authenticated(below)
    with pytest.raises(ConfigError, match="needs a function"):
        authenticated(AuthAgent)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"client_secret_group": "g", "client_secret_key": "k"}, "no option client_secret_group, client_secret_key"),
        ({"totally_bogus": 42}, "no option totally_bogus"),
        ({"task_config": AuthAgent}, "task_config is the class AuthAgent"),
        ({"task_config": 3}, "runs no other plugin"),
    ],
    ids=["secrets", "bogus", "class", "other"],
)
def test_eager_refuses_what_flytekit_would_swallow(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        eager(**options)


def test_eager_needs_an_async_function() -> None:
    with pytest.raises(ConfigError, match="async"):
        eager(lambda: 1)


def test_tasks_are_flytekits_own_so_that_everything_that_looks_at_their_type_goes_on_working() -> None:
    @task(task_config=AuthAgent())
    def plain(x: int) -> int:
        return x

    @task(task_config=AuthAgent())
    async def asynchronous(x: int) -> int:
        return x

    assert type(plain) is PythonFunctionTask
    assert type(asynchronous) is AsyncPythonFunctionTask
    assert plain.task_config == AuthAgent()
    mapped = map_task(plain)
    assert isinstance(mapped, ArrayNodeMapTask)
    assert mapped.execution_mode == ArrayNode.MINIMAL_STATE
    assert map_task(functools.partial(plain)).execution_mode == ArrayNode.MINIMAL_STATE


def test_the_environment_makes_flytekits_own_clients_authenticate_and_the_authors_wins() -> None:
    @task(task_config=AuthAgent(endpoint="dns:///flyte.example.com"), environment={"A": "1"})
    def ours() -> None: ...

    @task(task_config=AuthAgent(), environment={"FLYTE_CREDENTIALS_AUTH_MODE": "ClientSecret"})
    def authors() -> None: ...

    assert ours.environment == {
        "FLYTE_CREDENTIALS_AUTH_MODE": "authagent",
        "FLYTE_PLATFORM_URL": "flyte.example.com",
        "A": "1",
    }
    assert authors.environment == {"FLYTE_CREDENTIALS_AUTH_MODE": "ClientSecret"}


def test_the_configuration_is_a_value_it_compares_and_pickles() -> None:
    config = AuthAgent(
        "agent",
        scopes=["all"],
        run_as=Identity(execution_identity="alice", oauth2_client=OAuth2Client("batch", "")),
        tokens={"warehouse": TokenRequest(audience="https://w", scopes=["read"])},
        prefetch=True,
    )

    assert pickle.loads(pickle.dumps(config)) == config
    assert cloudpickle.loads(cloudpickle.dumps(config)) == config
    assert config.selectors.execution_identity == "alice"
    assert config.selectors.oauth2_client == "batch"
    with pytest.raises(AttributeError):
        config.provider = "env"  # type: ignore[misc]
