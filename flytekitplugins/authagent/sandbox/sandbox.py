"""The sandbox: its parts, started in the order in which they need each other, and stopped in the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flytekitplugins.authagent.sandbox import environment, private
from flytekitplugins.authagent.sandbox.agent_process import AgentProcess
from flytekitplugins.authagent.sandbox.cluster import Cluster
from flytekitplugins.authagent.sandbox.control import Control
from flytekitplugins.authagent.sandbox.control_plane import ControlPlane
from flytekitplugins.authagent.sandbox.counts import Counts
from flytekitplugins.authagent.sandbox.dialect import DIALECTS, HUB_AUDIENCE
from flytekitplugins.authagent.sandbox.faults import Faults
from flytekitplugins.authagent.sandbox.hub_process import HubProcess
from flytekitplugins.authagent.sandbox.posture import Posture
from flytekitplugins.authagent.sandbox.provider import Provider
from flytekitplugins.authagent.sandbox.user_session import UserSession
from flytekitplugins.authagent.sandbox.users import USERS


class Sandbox:
    """
    An OAuth provider, a Flyte control plane and an agent, on loopback, which keep their files in `directory`.

    `directory` is ours alone (0700) and has a short name: a Unix socket goes into it. `token_lifetime` is in
    seconds; `slots` is how many task attempts may run at one time. `task_environment` is what tasks get beside what
    propeller would set.

    With `consent`, one of `hub_process.CONSENTS`, there is a hub too, which tasks ask for tokens instead of the agent,
    and a Kubernetes API server that says which execution a task is of. `posture` must be one with an identity provider.
    """

    def __init__(
        self,
        directory: Path,
        posture: Posture,
        *,
        token_lifetime: int = 300,
        slots: int = 2,
        consent: str | None = None,
    ) -> None:
        self.directory = directory
        self.counts, self.faults = Counts(), Faults()
        self.hub = HubProcess(directory, consent) if consent else None
        self.cluster = Cluster() if consent else None
        self.provider = Provider(
            DIALECTS[posture.issuer],
            self.counts,
            self.faults,
            lifetime=token_lifetime,
            trusted=self.hub.trusted() if self.hub else (),
        )
        self.issuer = self.provider.issuer
        self.agent = AgentProcess(directory, self.issuer)
        self.task_environment: dict[str, str] = {}
        self.control_plane = ControlPlane(
            issuer=self.issuer,
            counts=self.counts,
            faults=self.faults,
            posture=posture,
            directory=directory / "flyte",
            task_environment=self.task_environment,
            slots=slots,
            pods=self.cluster,
        )
        self.control = Control(self.counts, self.faults, self.control_plane.executions)
        self.sessions = [self._session(user) for user in USERS]
        self.hub_sessions = [self._session(user, HUB_AUDIENCE) for user in USERS] if self.hub else []
        self._parts = ExitStack()

    def start(self, interrupted: Callable[[], bool] = lambda: False) -> None:
        """
        Start every part, and wait until each of them answers, or until `interrupted`.

        All counts are zero then, and every cache is cold. Raises `ProviderUnavailable` where a part does not come
        up. Either way `stop` ends what was started.
        """
        self._parts.callback(self.provider.stop)
        self.provider.start()
        for session in (*self.sessions, *self.hub_sessions):
            self._parts.callback(session.stop)
            session.start()
        self._parts.callback(self.agent.stop)
        if self.cluster and self.hub:
            self._parts.callback(self.cluster.stop)
            self.cluster.start()
            self._parts.callback(self.hub.stop)
        self._parts.callback(self.control_plane.stop)
        self.control_plane.start()
        # Its port is known only now, and no task has run yet.
        asked = self.hub or self.agent
        self.task_environment.update(environment.of_client(self.control_plane.endpoint, asked.socket))
        self._parts.callback(self.control.stop)
        self.control.start()
        self.agent.start(self.control_plane.endpoint, interrupted)
        if self.cluster and self.hub:
            self.hub.start(self.issuer, self.cluster, self.control_plane.endpoint, interrupted)
        self.counts.reset()

    def stop(self) -> None:
        """Stop all that was started, tasks first and the provider last."""
        self._parts.close()

    def write_ready(self, path: Path) -> None:
        """Tell a program where everything is. The file holds the clients' secrets, so it is for us alone."""
        content: dict[str, Any] = {
            "flyte_endpoint": self.control_plane.endpoint,
            "issuer": self.issuer.issuer,
            "token_endpoint": self.issuer.token_endpoint,
            "control": self.control.url,
            "agent_socket": str(self.agent.socket),
            "clients": {id: c.secret.reveal() for id, c in self.issuer.clients.items() if c.secret},
            "users": {session.user: {"token_file": str(session.token_file)} for session in self.sessions},
        }
        if self.hub:
            content["hub"] = {"url": self.hub.url, "socket": str(self.hub.socket), "audience": HUB_AUDIENCE}
        for session in self.hub_sessions:
            content["users"][session.user]["hub_token_file"] = str(session.token_file)
        private.write(path, json.dumps(content, indent=2) + "\n")

    def _session(self, user: str, audience: str | None = None) -> UserSession:
        """Somebody's session, with Flyte or with whom `audience` says."""
        kind = "hub-token" if audience else "token"
        return UserSession(
            user,
            token_endpoint=self.issuer.token_endpoint,
            refresh_token=self.issuer.sign_in(user, audience=audience, spared=True),
            token_file=self.directory / f"{user}.{kind}",
        )
