"""
flytekit's client in a task of an agent that keeps grants: what the task launches is covered by its grant.

Our remotes have a client of their own for that. flytekit's own client, which stock `@eager`, `pyflyte` in a task and
`FlyteRemote(Config.auto())` make, is taught to do the same: see `flytekit_client`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from flytekit.clients.friendly import SynchronousFlyteClient
from flytekit.configuration import PlatformConfig
from flytekit.exceptions.user import FlyteEntityAlreadyExistsException
from flytekit.loggers import logger
from flytekit.models.core.identifier import WorkflowExecutionIdentifier

from flytekitplugins.authagent.errors import AuthAgentError

if TYPE_CHECKING:  # a task that launches nothing does without
    from flytekitplugins.authagent.providers.agent import AgentProvider

Launch = Callable[..., WorkflowExecutionIdentifier]
AgentOf = Callable[[Any], "AgentProvider | None"]


def telling(launch: Launch, agent_of: AgentOf) -> Launch:
    """
    `launch`, a method of a client, which then tells the agent of that client what it has launched.

    Not before: until then the name is anybody's to take, and whoever took it would have the grant. Nor of a name that
    was taken. Whatever comes of telling, the launch has happened, and its result is returned.
    """

    @wraps(launch)
    def launch_and_tell(client: Any, *what: Any, **more: Any) -> WorkflowExecutionIdentifier:
        try:
            launched = launch(client, *what, **more)
        except FlyteEntityAlreadyExistsException:
            _warn_of_another(signature(launch).bind(client, *what, **more).arguments, client, agent_of)
            raise
        _tell(f"{launched.project}:{launched.domain}:{launched.name}", client, agent_of)
        return launched

    return launch_and_tell


def _tell(child: str, client: Any, agent_of: AgentOf) -> None:
    try:
        agent = agent_of(client)
        if agent is None:
            return
        covered = agent.adopt(child)
    except Exception as failed:  # whatever it is, the child runs
        why = str(failed) if isinstance(failed, AuthAgentError) else type(failed).__name__
        logger.warning(
            f"{child} runs, but is not covered by the grant of the execution that launched it: {why}. It cannot"
            f" act for whoever gave that: let them run `authagent grant {child}`, or end it and launch it anew"
        )
    else:
        grant = "covered by the grant of this execution" if covered else "launched, and there is no grant to cover it"
        logger.debug(f"{child} is {grant}")


def _warn_of_another(named: Mapping[str, Any], client: Any, agent_of: AgentOf) -> None:
    """flytekit goes on with what is there, an earlier attempt's child as a rule: that one has told of it."""
    from flytekitplugins.authagent.providers.agent import ADOPTION

    try:
        agent = agent_of(client)
        if agent is None or not agent.takes_children(within=ADOPTION):
            return
    except AuthAgentError:
        return
    child = ":".join(str(named[part]) for part in ("project", "domain", "name") if part in named)
    logger.warning(
        f"{child} was there already, so it is not added to the grant of this execution, if there is one:"
        " that was for whoever launched it to do, an earlier attempt of this task for example"
    )


def _own(client: LaunchingClient) -> AgentProvider:
    return client.agent


class LaunchingClient(SynchronousFlyteClient):  # type: ignore[misc] # flytekit has no types
    """The client of our remotes, where `agent` serves the task."""

    def __init__(self, platform: PlatformConfig, agent: AgentProvider) -> None:
        super().__init__(platform)
        self.agent = agent

    create_execution = telling(SynchronousFlyteClient.create_execution, _own)
    relaunch_execution = telling(SynchronousFlyteClient.relaunch_execution, _own)
    recover_execution = telling(SynchronousFlyteClient.recover_execution, _own)
