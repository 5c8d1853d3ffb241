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

    Not before: until then the name is anybody's to take. A name that was taken is told of too, for an earlier attempt
    of this task may have launched it, and ended before it could tell. That is safe because the hub looks at the child:
    it covers none that names a parent in its request, is older than ours, or was not launched by the grant's person, so
    whoever takes a name to get the grant gets nothing. Whatever comes of telling, `launch` ends as it did.
    """

    @wraps(launch)
    def launch_and_tell(client: Any, *what: Any, **more: Any) -> WorkflowExecutionIdentifier:
        try:
            launched = launch(client, *what, **more)
        except FlyteEntityAlreadyExistsException:
            if child := _named(signature(launch).bind(client, *what, **more).arguments):
                _tell(child, "was there already, and", client, agent_of)
            raise
        _tell(f"{launched.project}:{launched.domain}:{launched.name}", "runs, but", client, agent_of)
        return launched

    return launch_and_tell


def _named(arguments: Mapping[str, Any]) -> str | None:
    """What a launch was to be called, as `project:domain:name`; `None` where Flyte was to choose that."""
    name, before = arguments.get("name"), arguments.get("id")
    if not name:
        return None
    if before is None:
        return f"{arguments['project']}:{arguments['domain']}:{name}"
    return f"{before.project}:{before.domain}:{name}"  # it is launched again where it was


def _tell(child: str, state: str, client: Any, agent_of: AgentOf) -> None:
    try:
        agent = agent_of(client)
        if agent is None:
            return
        covered = agent.adopt(child)
    except Exception as failed:  # whatever it is, the launch was not ours to spoil
        why = str(failed) if isinstance(failed, AuthAgentError) else type(failed).__name__
        logger.warning(
            f"{child} {state} is not covered by the grant of this execution: {why}. It cannot act for whoever gave"
            f" that: while it runs, let them run `authagent grant {child}`, or end it and launch another"
        )
    else:
        grant = "covered by the grant of this execution" if covered else "launched, and there is no grant to cover it"
        logger.debug(f"{child} is {grant}")


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
