"""`eager`: flytekit's, whose controller, children and clean-up task are authenticated."""

from __future__ import annotations

import inspect
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any, overload

from flytekit.configuration import ImageConfig, SerializationSettings
from flytekit.core.constants import EAGER_ROOT_ENV_NAME
from flytekit.core.context_manager import FlyteContextManager
from flytekit.core.python_function_task import EagerAsyncPythonFunctionTask
from flytekit.core.utils import _dnsify
from flytekit.core.worker_queue import Controller
from flytekit.core.workflow import ImperativeWorkflow
from flytekit.remote import FlyteRemote
from flytekit.utils.asyn import loop_manager

from flytekitplugins.authagent import abort_children
from flytekitplugins.authagent.abort_orphans import AbortOrphans
from flytekitplugins.authagent.bind import bind, installed
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.remote import DefaultRemote, current
from flytekitplugins.authagent.task import AuthAgent, environment

Function = Callable[..., Any]

OPTIONS = frozenset(
    {
        "accelerator",
        "annotations",
        "container_image",
        "deck_fields",
        "docs",
        "enable_deck",
        "labels",
        "limits",
        "metadata",
        "pickle_untyped",
        "pod_template",
        "pod_template_name",
        "requests",
        "resources",
        "secret_requests",
        "shared_memory",
        "task_resolver",
    }
)
"""What flytekit's eager task understands. It swallows everything else without a word, so we do not pass it on."""


@overload
def eager(function: Function) -> AuthAgentEagerTask: ...
@overload
def eager(
    *,
    task_config: AuthAgent | None = None,
    environment: Mapping[str, str] | None = None,
    remote: FlyteRemote | None = None,
    **options: Any,
) -> Callable[[Function], AuthAgentEagerTask]: ...
def eager(
    function: Function | None = None,
    *,
    task_config: AuthAgent | None = None,
    environment: Mapping[str, str] | None = None,
    remote: FlyteRemote | None = None,
    **options: Any,
) -> AuthAgentEagerTask | Callable[[Function], AuthAgentEagerTask]:
    """
    An eager workflow that authenticates by `task_config`, or by the bindings where there is none.

    `remote` is what launches the children, `remote.default()` for example; left out, it is the task's own.
    `options` are those of flytekit's eager. Raises `ConfigError` for one that it would silently drop.
    """
    config = _checked(task_config)
    if unknown := options.keys() - OPTIONS:
        raise ConfigError(
            f"eager has no option {', '.join(sorted(unknown))}",
            hint="no client secret is needed; credentials come from the provider"
            if any("secret" in name for name in unknown)
            else f"it has {', '.join(sorted(OPTIONS | {'task_config', 'environment', 'remote'}))}",
        )

    def decorate(function: Function) -> AuthAgentEagerTask:
        if not inspect.iscoroutinefunction(function):
            raise ConfigError("eager needs an async function", hint="write async def")
        return AuthAgentEagerTask(config, bind(function, config), remote, environment=environment, **options)

    return decorate if function is None else decorate(function)


def _checked(config: object) -> AuthAgent:
    if config is None:
        return AuthAgent()
    if isinstance(config, type):
        raise ConfigError(f"task_config is the class {config.__name__}", hint=f"write task_config={config.__name__}()")
    if not isinstance(config, AuthAgent) or config.inner is not None:
        raise ConfigError("an eager workflow runs no other plugin", hint="give it task_config=AuthAgent(...)")
    return config


class AuthAgentEagerTask(EagerAsyncPythonFunctionTask):  # type: ignore[misc] # flytekit has no types
    """flytekit's eager task with a remote of ours, which it would otherwise make from the environment alone."""

    def __init__(
        self,
        config: AuthAgent,
        function: Function,
        remote: FlyteRemote | None = None,
        **options: Any,
    ) -> None:
        options["environment"] = environment(config, options.get("environment"))
        super().__init__(config, function, **options)
        self._children_by = remote

    def execute(self, **inputs: Any) -> Any:
        """Run the function: in a pod with a controller that launches what it calls as executions of their own."""
        context = FlyteContextManager.current_context()
        if context.execution_state.is_local_execution():
            return super().execute(**inputs)
        if context.worker_queue:
            raise ConfigError("an eager workflow cannot run inside the task of another")
        with installed(self.task_config, self.task_function):
            controller = self._controller()
            context = FlyteContextManager.current_context()
            with FlyteContextManager.with_context(context.with_worker_queue(controller)):
                return loop_manager.run_sync(self.async_execute, self, **inputs)

    def _controller(self) -> Controller:
        """
        As `EagerAsyncPythonFunctionTask.run` makes it, which cannot be used: an input called `remote` or `ss` would
        be taken for its own. The remote must be made here, where the deck of this task is in the context.
        """
        context = FlyteContextManager.current_context()
        remote = self._children_by
        if remote is None or isinstance(remote, DefaultRemote):
            remote = current()  # the controller uses it from threads that have no context
        tag = context.user_space_params.execution_id.name
        controller = Controller(
            remote=remote,
            ss=context.serialization_settings or SerializationSettings(ImageConfig.auto_default_image()),
            tag=tag,
            root_tag=os.environ.get(EAGER_ROOT_ENV_NAME, tag),
            exec_prefix=_dnsify(f"e-{self.name.split('.')[-1][:8]}-{tag[:5]}"),
        )
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, abort_children.on_signal(controller))
        return controller

    def get_as_workflow(self) -> ImperativeWorkflow:
        """What `pyflyte register` registers: the task, and on its failure the one that aborts its orphans."""
        workflow = ImperativeWorkflow(name=self.name)
        inputs = {
            name: workflow.add_workflow_input(name, python_type)
            for name, python_type in self.python_interface.inputs.items()
        }
        node = workflow.add_entity(self, **inputs)
        for name in self.python_interface.outputs:
            workflow.add_workflow_output(name, node.outputs[name])
        workflow.add_on_failure_handler(AbortOrphans(self))
        return workflow
