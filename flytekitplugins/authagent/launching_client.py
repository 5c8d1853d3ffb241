"""flytekit's client for a task of an agent that keeps grants: what the task launches is covered by its grant."""

from __future__ import annotations

from typing import Any

from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import PlatformConfig
from flytekit.exceptions.user import FlyteEntityAlreadyExistsException
from flytekit.loggers import logger
from flytekit.models.core.identifier import WorkflowExecutionIdentifier

from flytekitplugins.authagent.errors import AuthAgentError
from flytekitplugins.authagent.providers.agent import ADOPTION, AgentProvider


class LaunchingClient(SynchronousFlyteClient):  # type: ignore[misc] # flytekit has no types
    """
    Tells the agent of each execution that it launches, once Flyte has launched it.

    Not before: until then the name is anybody's to take, and whoever took it would have the grant. Nor of a name that
    was taken. Whatever comes of telling, the launch has happened, and its result is returned.
    """

    def __init__(self, platform: PlatformConfig, agent: AgentProvider) -> None:
        super().__init__(platform)
        self._agent = agent

    def create_execution(self, project: str, domain: str, name: str, *spec: Any, **more: Any) -> Any:
        """As flytekit's."""
        try:
            return self._adopted(super().create_execution(project, domain, name, *spec, **more))
        except FlyteEntityAlreadyExistsException:
            self._warn_of_another(f"{project}:{domain}:{name}")
            raise

    def relaunch_execution(self, *what: Any, **more: Any) -> Any:
        """As flytekit's."""
        return self._adopted(super().relaunch_execution(*what, **more))

    def recover_execution(self, *what: Any, **more: Any) -> Any:
        """As flytekit's."""
        return self._adopted(super().recover_execution(*what, **more))

    def _adopted(self, launched: WorkflowExecutionIdentifier) -> WorkflowExecutionIdentifier:
        child = f"{launched.project}:{launched.domain}:{launched.name}"
        try:
            covered = self._agent.adopt(child)
        except Exception as failed:  # whatever it is, the child runs
            why = str(failed) if isinstance(failed, AuthAgentError) else type(failed).__name__
            logger.warning(
                f"{child} runs, but is not covered by the grant of the execution that launched it: {why}. It cannot"
                f" act for whoever gave that: let them run `authagent grant {child}`, or end it and launch it anew"
            )
        else:
            grant = (
                "covered by the grant of this execution" if covered else "launched, and there is no grant to cover it"
            )
            logger.debug(f"{child} is {grant}")
        return launched

    def _warn_of_another(self, child: str) -> None:
        """flytekit goes on with what is there, an earlier attempt's child as a rule: that one has told of it."""
        try:
            covers = self._agent.takes_children(within=ADOPTION)
        except AuthAgentError:
            return
        if covers:
            logger.warning(
                f"{child} was there already, so it is not added to the grant of this execution, if there is one:"
                " that was for whoever launched it to do, an earlier attempt of this task for example"
            )
