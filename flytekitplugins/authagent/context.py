"""What is known about the code that asks: the facts that a binding can match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class RunAs:
    """
    The `Identity` that a task declares, reduced to names. Each of them selects; none of them proves anything.

    `oauth2_client` is the client's id; a secret never gets here.
    """

    execution_identity: str | None = None
    oauth2_client: str | None = None
    k8s_service_account: str | None = None
    iam_role: str | None = None


@dataclass(frozen=True)
class Context:
    """Who asks, as far as this process knows. `None` where it does not."""

    project: str | None = None
    domain: str | None = None
    execution: str | None = None
    task: str | None = None
    run_as: RunAs = RunAs()

    @property
    def execution_id(self) -> str | None:
        """`project:domain:name`, as the agent writes it down."""
        if self.project and self.domain and self.execution:
            return f"{self.project}:{self.domain}:{self.execution}"
        return None

    def facts(self) -> dict[str, str | None]:
        """Every fact by the name that `when:` uses for it."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "run_as"}
        return plain | {f.name: getattr(self.run_as, f.name) for f in fields(self.run_as)}


def from_environment(environ: Mapping[str, str]) -> Context:
    """The context that propeller writes into a task's pod; empty elsewhere."""
    return Context(
        project=environ.get("FLYTE_INTERNAL_EXECUTION_PROJECT") or None,
        domain=environ.get("FLYTE_INTERNAL_EXECUTION_DOMAIN") or None,
        execution=environ.get("FLYTE_INTERNAL_EXECUTION_ID") or None,
        task=environ.get("FLYTE_INTERNAL_TASK_NAME") or None,
    )
