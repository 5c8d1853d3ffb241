"""Binding a function: just before it runs its context gets a remote, and when it ends, however, that is gone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, overload

from flytekit.core.base_task import Task
from flytekit.core.context_manager import FlyteContextManager, FlyteEntities, flyte_context_Var
from flytekit.exceptions.base import FlyteException
from flytekit.models.security import SecurityContext

from flytekitplugins.authagent.bound_parameters import BoundParameters
from flytekitplugins.authagent.errors import AuthAgentError, ConfigError, ProviderUnavailable
from flytekitplugins.authagent.handle import Handle
from flytekitplugins.authagent.recoverable import for_flyte
from flytekitplugins.authagent.task import AuthAgent

Function = Callable[..., Any]


@overload
def authenticated(what: Function) -> Function: ...
@overload
def authenticated(what: AuthAgent | None = None) -> Callable[[Function], Function]: ...
def authenticated(what: Function | AuthAgent | None = None) -> Function | Callable[[Function], Function]:
    """
    Bind the function below any `@task(...)`: `@authenticated` or `@authenticated(AuthAgent(...))`, sync or async.

    Raises `ConfigError` where it stands above `@task`, or is given the class `AuthAgent`.
    """
    if what is None or isinstance(what, AuthAgent):
        config = what or AuthAgent()
        return lambda function: bind(_checked(function), config)
    return bind(_checked(what), AuthAgent())


def _checked(function: object) -> Function:
    if isinstance(function, Task):
        raise ConfigError(f"@authenticated stands above @task on {function.name}", hint="put it below @task(...)")
    if isinstance(function, type) or not callable(function):
        raise ConfigError("@authenticated needs a function", hint="write @authenticated(AuthAgent(...)) above one")
    return function


def bind(function: Function, config: AuthAgent) -> Function:
    """`function`, which finds an authenticated remote in its context while it runs."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def bound(*args: Any, **kwargs: Any) -> Any:
            with installed(config, bound):
                return await function(*args, **kwargs)

    else:

        @functools.wraps(function)
        def bound(*args: Any, **kwargs: Any) -> Any:
            with installed(config, bound):
                return function(*args, **kwargs)

    return _named_like(function, bound)


def _named_like(function: Function, bound: Function) -> Function:
    """
    Let `bound` come from the file of `function`.

    In `__main__` flytekit names a task by the file that its code says it is from, and does not look through
    wrappers: without this the task would be looked for in this module.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is not None and function.__module__ == "__main__":  # elsewhere it would only blur tracebacks
        bound.__code__ = bound.__code__.replace(co_filename=code.co_filename, co_firstlineno=code.co_firstlineno)
    return bound


@contextmanager
def installed(config: AuthAgent, function: Function | None = None) -> Iterator[None]:
    """
    While this lasts, `current_context()` has `.remote` and `.tokens`, in this thread and this coroutine only.

    flytekit keeps its contexts in a list that coroutines share; ours goes on a list of its own, so that siblings
    which suspend in between cannot disturb each other. Errors of ours leave as Flyte should see them.
    """
    context = FlyteContextManager.current_context()
    handle = Handle(config, context.user_space_params, functools.partial(_security_context, function))
    parameters = BoundParameters.of(context.user_space_params, handle)
    state = context.execution_state.with_params(user_space_params=parameters)
    token = flyte_context_Var.set([*flyte_context_Var.get(), context.with_execution_state(state).build()])
    try:
        with handle, _as_flyte_sees_it():
            if config.prefetch:
                handle.prefetch()
            yield
    finally:
        flyte_context_Var.reset(token)


def _security_context(function: Function | None) -> SecurityContext | None:
    """What the task around `function` declares. Looked for when it is needed: at declaration there is no task yet."""
    for entity in FlyteEntities.entities:
        if function is not None and getattr(entity, "_task_function", None) is function:
            found: SecurityContext | None = entity.security_context
            return found
    return None


@contextmanager
def _as_flyte_sees_it() -> Iterator[None]:
    """
    Our error instead of the flytekit error that hides it, and recoverable where trying again makes sense.

    Whatever we raise inside an RPC comes out of flytekit as the cause of a `FlyteSystemException`.
    """
    try:
        yield
    except ProviderUnavailable as ours:
        _raise_anew(ours, ours)
    except FlyteException as theirs:
        if isinstance(theirs.__cause__, AuthAgentError):
            _raise_anew(theirs.__cause__, theirs)
        raise


def _raise_anew(ours: AuthAgentError, seen: BaseException) -> NoReturn:
    """With the traceback of what was seen, which leads to the author's own line."""
    raise for_flyte(ours).with_traceback(seen.__traceback__) from None
