"""`@task(task_config=AuthAgent())`: what an author writes, checked where it is written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from types import MappingProxyType
from typing import Any, NoReturn

from flytekit.core.python_function_task import AsyncPythonFunctionTask, PythonFunctionTask
from flytekit.core.task import TaskPlugins
from flytekit.core.utils import ClassDecorator
from flytekit.models.security import Identity

from flytekitplugins.authagent import endpoint as endpoints
from flytekitplugins.authagent import kind
from flytekitplugins.authagent.context import RunAs
from flytekitplugins.authagent.errors import ConfigError

AUTH_MODE = "FLYTE_CREDENTIALS_AUTH_MODE"


@dataclass(frozen=True)
class TokenRequest:
    """
    A token for something else than Flyte, as `AuthAgent(tokens={"name": TokenRequest(...)})` declares it.

    `client` asks for a token of that OAuth client, by its id.
    """

    audience: str | None = None
    scopes: tuple[str, ...] | list[str] = ()
    client: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", _scopes(self.scopes, "TokenRequest"))


class AuthAgentType(type):
    """
    The class of the class `AuthAgent`.

    flytekit looks a plugin up by the exact type of `task_config`, and takes what it does not find for a plain
    task. So that `task_config=AuthAgent` does not pass silently, this type is registered too, to refuse.
    """

    def __call__(cls, *args: Any, **options: Any) -> Any:
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type] # always a dataclass
        for name in options.keys() - known:
            hint = "secrets never stand in a task's configuration: they are the provider's" if "secret" in name else ""
            raise ConfigError(f"AuthAgent has no option {name!r}", hint=hint or f"it has {', '.join(sorted(known))}")
        return super().__call__(*args, **options)


@dataclass(frozen=True)
class AuthAgent(metaclass=AuthAgentType):
    """
    Gives a task `current_context().remote`, an authenticated `FlyteRemote`.

    `provider`: where credentials come from (`agent`, `file`, ...); `None` lets the bindings decide.
    `endpoint`: which Flyte, where it is not the one this task runs in. `audience`, `scopes`: what the token is for.
    `run_as`: selects by identity, never widens. `tokens`: further tokens, found as `current_context().tokens[name]`.
    `project`, `domain`: the defaults of the remote; the execution's own unless set. `prefetch`: obtain the
    credential before the function starts, so that a long task fails first and not last. `inner`: the
    configuration of another plugin, which then runs the task.

    Raises `ConfigError`, at declaration, for anything that could not work, and for any secret.
    """

    provider: str | None = None
    _: KW_ONLY
    endpoint: str | None = None
    audience: str | None = None
    scopes: tuple[str, ...] | list[str] | None = None
    run_as: Identity | None = None
    tokens: Mapping[str, TokenRequest] = field(default_factory=dict)
    project: str | None = None
    domain: str | None = None
    prefetch: bool = False
    inner: Any = None

    def __init_subclass__(cls) -> NoReturn:
        raise ConfigError("AuthAgent cannot be subclassed: flytekit would run such a task without it")

    def __post_init__(self) -> None:
        if self.provider is not None:
            kind.check(self.provider, "AuthAgent(provider=...)")
        for name in ("endpoint", "audience", "project", "domain"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value.strip()):
                raise ConfigError(f"AuthAgent({name}=...) must be text")
        if self.endpoint is not None:
            endpoints.parse(self.endpoint)
        object.__setattr__(self, "scopes", _scopes(self.scopes or (), "AuthAgent"))
        object.__setattr__(self, "tokens", _tokens(self.tokens))
        _check_run_as(self.run_as)
        _check_inner(self.inner)

    def __reduce__(self) -> tuple[Any, ...]:
        """A mapping proxy does not pickle, and a notebook's task is pickled with its configuration."""
        options = {f.name: getattr(self, f.name) for f in fields(self)}
        return _restored, (options | {"tokens": dict(self.tokens)},)

    @property
    def selectors(self) -> RunAs:
        """`run_as` as the bindings see it."""
        return selectors(self.run_as)


def selectors(identity: Identity | None) -> RunAs:
    """flytekit's `Identity` reduced to names: a client's secret, should there be one, is left behind."""
    if identity is None:
        return RunAs()
    client = identity.oauth2_client
    return RunAs(
        execution_identity=identity.execution_identity or None,
        oauth2_client=client.client_id if client else None,
        k8s_service_account=identity.k8s_service_account or None,
        iam_role=identity.iam_role or None,
    )


def _restored(options: dict[str, Any]) -> AuthAgent:
    return AuthAgent(**options)


def _scopes(given: object, where: str) -> tuple[str, ...]:
    if isinstance(given, tuple | list) and all(isinstance(scope, str) and scope.split() == [scope] for scope in given):
        return tuple(given)
    raise ConfigError(f"{where}(scopes=...) must be a list of scopes, each one word", hint='write scopes=["all"]')


def _tokens(given: object) -> Mapping[str, TokenRequest]:
    if not isinstance(given, Mapping):
        raise ConfigError("AuthAgent(tokens=...) must map names to TokenRequest(...)")
    for name, request in given.items():
        if not isinstance(name, str) or not isinstance(request, TokenRequest):
            shown = name if isinstance(name, str) else "a name"
            raise ConfigError(
                f"AuthAgent(tokens=...): {shown} must be a TokenRequest(...)",
                hint="it says what the token is for; a token itself never stands in a task's configuration",
            )
    return MappingProxyType(dict(given))


def _check_run_as(identity: object) -> None:
    if identity is None:
        return
    if not isinstance(identity, Identity):
        raise ConfigError("AuthAgent(run_as=...) must be a flytekit.models.security.Identity")
    if identity.oauth2_client and identity.oauth2_client.client_secret:
        raise ConfigError(
            "AuthAgent(run_as=...) holds the secret of an oauth2_client",
            hint='name the client by its id alone: OAuth2Client(client_id="...", client_secret="")',
        )


def _check_inner(inner: object) -> None:
    if inner is None:
        return
    if isinstance(inner, type):
        raise ConfigError(f"AuthAgent(inner={inner.__name__}) is a class", hint=f"write inner={inner.__name__}()")
    if isinstance(inner, AuthAgent):
        raise ConfigError("AuthAgent(inner=AuthAgent(...)) says twice what one of them says")
    if TaskPlugins.find_pythontask_plugin(type(inner)) is PythonFunctionTask:
        raise ConfigError(
            f"AuthAgent(inner=...): no task plugin is registered for {type(inner).__name__}",
            hint="import the plugin that it belongs to",
        )


class AuthAgentTask(AsyncPythonFunctionTask):  # type: ignore[misc] # flytekit has no types
    """
    Stands where flytekit looks for a plugin, and makes flytekit's own tasks around a bound function.

    It is never instantiated: `type(task)` stays what it would be without us, which map tasks, resolvers and
    pickles rely on. It derives from the async class because flytekit asks that of a plugin for `async def`.
    """

    def __new__(cls, task_config: AuthAgent, task_function: Callable[..., Any], **options: Any) -> PythonFunctionTask:
        return declare(task_config, task_function, **options)


def declare(config: AuthAgent, function: Callable[..., Any], **options: Any) -> PythonFunctionTask:
    """The task that flytekit, or the plugin of `config.inner`, makes of `function` once it is bound."""
    from flytekitplugins.authagent.bind import bind

    plugin = _plugin(config, function)
    if isinstance(function, ClassDecorator):  # flytekit looks for it by its type, so it stays outermost
        function.task_function = bind(function.task_function, config)
    else:
        function = bind(function, config)
    options["environment"] = environment(config, options.get("environment"))
    return plugin(config if config.inner is None else config.inner, function, **options)


def environment(config: AuthAgent, own: Mapping[str, str] | None) -> dict[str, str]:
    """
    The task's environment: with it every client that flytekit builds in the pod, and in the processes started
    there, authenticates by this package. What the author sets himself wins.
    """
    contributed = {AUTH_MODE: "authagent"}
    if config.endpoint:
        contributed["FLYTE_PLATFORM_URL"] = endpoints.parse(config.endpoint).target
    return contributed | dict(own or {})


def _plugin(config: AuthAgent, function: Callable[..., Any]) -> Any:
    is_async = inspect.iscoroutinefunction(function)
    if config.inner is None:
        return AsyncPythonFunctionTask if is_async else PythonFunctionTask
    plugin: Any = TaskPlugins.find_pythontask_plugin(type(config.inner))
    if is_async and not issubclass(plugin, AsyncPythonFunctionTask):
        raise ConfigError(f"the plugin of {type(config.inner).__name__} cannot run an async function")
    return plugin


class _NotAnInstance(AsyncPythonFunctionTask):  # type: ignore[misc] # flytekit has no types
    """Where `task_config=AuthAgent`, the class, ends up."""

    def __new__(cls, task_config: type, task_function: Callable[..., Any], **_: Any) -> NoReturn:
        name = getattr(task_function, "__name__", "the task")
        raise ConfigError(f"{name}: task_config is the class AuthAgent", hint="write task_config=AuthAgent()")


TaskPlugins.register_pythontask_plugin(AuthAgent, AuthAgentTask)
TaskPlugins.register_pythontask_plugin(AuthAgentType, _NotAnInstance)
