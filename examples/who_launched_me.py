"""
Who launched this, and whom should it tell? flyteorg/flyte#6550: "no way to get any user information in flytekit".

    authagent sandbox -- pyflyte run --remote examples/who_launched_me.py main

Each fact says where it is from. None of them is authorisation: whoever may launch executions can make one that shows
somebody else, so use them to write down, to notify and to sort, never to allow. Tests: test_who_launched_me.py.
"""

import flytekit
from flytekit import task, workflow

from flytekitplugins.authagent import AuthAgent


@task(task_config=AuthAgent(), enable_deck=True)
def credit() -> str:
    """A line for a report; the same is shown as a deck."""
    identity = flytekit.current_context().identity
    identity.deck()
    if not identity.subject:
        return "launched by somebody unknown"
    who = identity.name if identity.name else identity.subject
    return f"launched by {who} ({identity.subject.source})"


@workflow
def main() -> str:
    """One line."""
    return credit()
