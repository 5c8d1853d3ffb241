"""
Acting for whoever launched it: what this launches is theirs, and Flyte shows them as its principal.

    authagent run -- pyflyte run --remote examples/acts_for_you.py main

That consents, for this execution and the children that it launches, before it launches it. Without consent the rules of
the hub decide: a refusal, or a service's identity. The code is the same either way, and in a Flyte without a hub.
"""

import flytekit
from flytekit import task

from flytekitplugins.authagent import AuthAgent, eager


@task(task_config=AuthAgent())
async def whose() -> str:
    """Whom Flyte names as the principal of the execution that this runs in."""
    context = flytekit.current_context()
    own = context.remote.fetch_execution(name=context.execution_id.name)
    return str(own.spec.metadata.principal)


@eager
async def main() -> str:
    """The principal of a child, which is launched as an execution of its own."""
    return await whose()
