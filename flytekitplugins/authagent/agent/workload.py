"""Who asks, as far as it is attested; and what is only said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from flytekitplugins.authagent.agent.peer import Peer


@dataclass(frozen=True)
class Pod:
    """
    A pod, as the API server attests it. `execution` is `project:domain:name`, of the workflow that controls the pod.

    `credential_id` names the token that it showed (its `jti`) and is no secret. `labels` and `identity` are what
    whoever launched the execution wrote: hints. `identity` has the keys of Flyte's `Identity` that were set.
    """

    namespace: str
    service_account: str
    name: str
    uid: str
    node: str = ""
    project: str | None = None
    domain: str | None = None
    execution: str | None = None
    credential_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)
    identity: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    def described(self) -> dict[str, str]:
        """What is attested of it, as text by name; what is not known is left out."""
        known = {
            "namespace": self.namespace,
            "service_account": self.service_account,
            "name": self.name,
            "uid": self.uid,
            "node": self.node,
            "project": self.project,
            "domain": self.domain,
            "execution": self.execution,
            "credential_id": self.credential_id,
        }
        return {name: value for name, value in known.items() if value}


class Workload(NamedTuple):
    """The caller: the kernel's word on the process, and the API server's on its pod, where there is one."""

    peer: Peer
    pod: Pod | None = None
