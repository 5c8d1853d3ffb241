"""What a failed execution says: our code and words in `error.pb`, retried only where that makes sense."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flyte_place import Place, phase
from flytekit.models.core.execution import ExecutionError
from flytekit.remote import FlyteWorkflowExecution


@pytest.fixture(scope="module")
def registered(shared_place: Place) -> Place:
    """The failing workflows."""
    shared_place.register("failing.py", version="1")
    return shared_place


@pytest.fixture
def flyte(registered: Place, place: Place) -> Iterator[Place]:
    """A place whose task environment is as at its start afterwards."""
    saved = dict(place.task_environment)
    yield place
    place.task_environment.clear()
    place.task_environment.update(saved)


def run(place: Place, name: str) -> tuple[FlyteWorkflowExecution, int]:
    """The execution of a task when it has ended, and how many attempts it took."""
    remote = place.remote()
    ended = place.ended(remote.execute(remote.fetch_task(name=f"failing.{name}", version="1"), inputs={"x": 1}))
    return ended, attempts(place, ended)


def attempts(place: Place, execution: FlyteWorkflowExecution) -> int:
    """One task execution an attempt."""
    synced = place.remote().sync_execution(execution, sync_nodes=True)
    return sum(len(node.task_executions) for node in synced.node_executions.values())


def error_of(execution: Any) -> ExecutionError:
    """What Flyte shows."""
    assert phase(execution) == "FAILED"
    found: ExecutionError = execution.error
    return found


def test_with_nothing_configured_the_error_says_what_was_tried_and_what_to_set(flyte: Place) -> None:
    del flyte.task_environment["AUTHAGENT_TOKEN_FILE"]

    execution, tries = run(flyte, "asks")

    error = error_of(execution)
    assert error.code == "AUTHAGENT:NO_CREDENTIAL"
    for words in (
        "agent: there is no socket at /var/run/authagent/agent.sock",
        "file: AUTHAGENT_TOKEN_FILE is not set",
        "env: AUTHAGENT_TOKEN is not set",
        "start the agent (authagent serve), or set AUTHAGENT_SOCKET",
    ):
        assert words in error.message
    assert tries == 1
    assert flyte.counts.snapshot()["rpcs"].get("ListProjects") is None


def test_without_an_endpoint_there_is_an_error_and_never_localhost_30080(flyte: Place) -> None:
    del flyte.task_environment["FLYTE_PLATFORM_URL"]

    execution, tries = run(flyte, "asks")

    error = error_of(execution)
    assert error.code == "AUTHAGENT:CONFIG"
    assert "no Flyte endpoint is configured" in error.message
    assert "30080" not in error.message
    assert tries == 1


def test_a_rejection_is_ours_says_why_and_is_not_retried(flyte: Place) -> None:
    token = flyte.token_file.read_text()
    flyte.write_token(token[:-4] + "AAAA")

    ended, tries = run(flyte, "asks")

    error = error_of(ended)
    assert error.code == "AUTHAGENT:REJECTED"
    assert "signature is wrong" in error.message
    assert token[:40] not in error.message
    assert tries == 1
    assert flyte.rejected() == 2


def test_only_what_is_unavailable_for_now_is_retried(flyte: Place, tmp_path: Path) -> None:
    # A socket nobody serves, in a directory that is there: the pod waits for it, and says that it waited.
    flyte.task_environment["AUTHAGENT_CONFIG"] = str(tmp_path / "authagent.yaml")
    (tmp_path / "authagent.yaml").write_text(
        f"bindings: [{{provider: {{kind: agent, socket: {tmp_path}/agent.sock, wait: 0.5}}}}]"
    )

    execution, tries = run(flyte, "asks_the_agent")

    error = error_of(execution)
    assert error.code == "AUTHAGENT:UNAVAILABLE"
    assert "there is no socket at" in error.message
    assert "after 0.5 s" in error.message
    assert tries == 2


def test_a_refusal_of_the_configuration_is_not_retried(flyte: Place, tmp_path: Path) -> None:
    loose = tmp_path / "authagent.yaml"
    loose.write_text("bindings: []")
    loose.chmod(0o666)
    flyte.task_environment["AUTHAGENT_CONFIG"] = str(loose)

    execution, tries = run(flyte, "asks")

    assert error_of(execution).code == "AUTHAGENT:CONFIG"
    assert "can be written by others" in error_of(execution).message
    assert tries == 1


def test_an_error_of_the_authors_own_is_not_replaced(flyte: Place) -> None:
    del flyte.task_environment["AUTHAGENT_TOKEN_FILE"]

    execution, tries = run(flyte, "catches")

    assert error_of(execution).code == "USER:RuntimeError"
    assert "the author's own words" in error_of(execution).message
    assert tries == 1


def test_nothing_configured_is_found_out_within_a_second(place: Place) -> None:
    """Measured without the start of a process, which takes longer than the rest."""
    from flytekitplugins.authagent import AuthAgent, NoCredential
    from flytekitplugins.authagent.handle import Handle

    os.environ["FLYTE_INTERNAL_EXECUTION_ID"] = "e"
    began = time.monotonic()
    with pytest.raises(NoCredential):
        Handle(AuthAgent()).remote()
    assert time.monotonic() - began < 1
