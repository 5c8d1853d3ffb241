"""The task that runs when an eager workflow has failed, and aborts the children that it left behind."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flytekit import current_context
from flytekit.configuration import SerializationSettings
from flytekit.core.base_task import Task, TaskResolverMixin
from flytekit.core.constants import EAGER_TAG_KEY
from flytekit.core.context_manager import FlyteContext
from flytekit.core.python_auto_container import default_task_resolver
from flytekit.core.python_function_task import EagerFailureHandlerTask
from flytekit.loggers import logger
from flytekit.models.admin.common import Sort
from flytekit.models.core.identifier import WorkflowExecutionIdentifier
from flytekit.models.filters import ValueIn
from flytekit.models.literals import LiteralMap
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent.bind import installed
from flytekitplugins.authagent.errors import ProviderUnavailable

if TYPE_CHECKING:
    from flytekitplugins.authagent.eager_workflow import AuthAgentEagerTask

PAUSE = 1.0
"""Seconds between two looks at what is left."""

PATIENCE = 300.0
"""Seconds after which what cannot be aborted is left to the operator."""

_PAGE = 100


class AbortOrphans(EagerFailureHandlerTask):  # type: ignore[misc] # flytekit has no types
    """
    flytekit's clean-up task with the environment, secrets, pod template and credentials of its eager workflow.

    flytekit's own gets none of these: where Flyte wants authentication it waits for a browser, and the orphans run.
    """

    def __init__(self, eager: AuthAgentEagerTask) -> None:
        declared = eager.security_context
        super().__init__(
            name=f"{eager.name}-cleanup",
            container_image=eager.container_image,
            inputs=eager.python_interface.inputs,
            environment=eager.environment,
            secret_requests=declared.secrets if declared else None,
            pod_template=eager.pod_template,
            pod_template_name=eager.metadata.pod_template_name,
        )
        self.eager = eager
        self.set_resolver(abort_orphans_resolver)

    def dispatch_execute(self, ctx: FlyteContext, input_literal_map: LiteralMap) -> LiteralMap:
        """Abort every execution that carries this one's tag. The inputs are not looked at, and returned."""
        with installed(self.eager.task_config, self.eager.task_function):
            abort(current_context().remote, current_context().execution_id)
        return input_literal_map


def abort(remote: FlyteRemote, parent: WorkflowExecutionIdentifier) -> None:
    """
    Abort what `parent` launched until nothing of it runs.

    Raises `ProviderUnavailable` if something still does after `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while children := _running(remote, parent):
        for child in children:
            try:
                remote.client.terminate_execution(child.id, f"its eager workflow {parent.name} has failed")
                logger.warning(f"aborted {child.id.name}")
            except Exception as failed:  # it may have ended in between; the next look tells
                logger.warning(f"cannot abort {child.id.name}: {type(failed).__name__}")
        if time.monotonic() > deadline:
            left = ", ".join(child.id.name for child in children)
            raise ProviderUnavailable(f"still running after {PATIENCE:g} s: {left}")
        time.sleep(PAUSE)


def _running(remote: FlyteRemote, parent: WorkflowExecutionIdentifier) -> list[Any]:
    found, _ = remote.client.list_executions_paginated(
        parent.project,
        parent.domain,
        limit=_PAGE,
        filters=[
            ValueIn("execution_tag.key", [EAGER_TAG_KEY]),
            ValueIn("execution_tag.value", [parent.name]),
            ValueIn("phase", ["UNDEFINED", "QUEUED", "RUNNING"]),
        ],
        sort_by=Sort("created_at", Sort.Direction.DESCENDING),
    )
    return list(found)


class AbortOrphansResolver(TaskResolverMixin):  # type: ignore[misc] # flytekit has no types
    """Finds the clean-up task in the pod by way of its eager workflow, whose configuration it needs."""

    @property
    def location(self) -> str:
        """Where flytekit finds this resolver in the pod."""
        return f"{__name__}.abort_orphans_resolver"

    def name(self) -> str:
        """See `TaskResolverMixin`."""
        return "abort_orphans_resolver"

    def loader_args(self, settings: SerializationSettings, t: AbortOrphans) -> list[str]:
        """The arguments by which flytekit finds the eager workflow."""
        found: list[str] = t.eager.task_resolver.loader_args(settings, t.eager)
        return found

    def load_task(self, loader_args: list[str]) -> AbortOrphans:
        """See `TaskResolverMixin`."""
        return AbortOrphans(default_task_resolver.load_task(loader_args))

    def get_all_tasks(self) -> list[Task]:
        """None: each belongs to its workflow."""
        return []


abort_orphans_resolver = AbortOrphansResolver()
