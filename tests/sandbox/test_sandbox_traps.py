"""What goes wrong in a naive sandbox, as was found before this one was built, and does not in ours."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flyte_clients import environment, pyflyte
from flyteidl.admin import common_pb2, execution_pb2
from running_control_plane import Running, running
from templates import DOMAIN, LAUNCH_PLAN, PROJECT, ended, identifier, literals, ran, register, script, text

pytestmark = pytest.mark.timeout(90)

PLACES = """
from __future__ import annotations
import os
from pathlib import Path
from flytekit import dynamic, task, workflow

@task
def where() -> str:
    return f"{Path(__file__).resolve()} {Path.cwd()} {Path.home()}"

@dynamic
def asks() -> str:
    return where()

@workflow
def both() -> tuple[str, str]:
    return where(), asks()
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    """A control plane whose tasks can call it back, with two slots."""
    with called_back(tmp_path_factory.mktemp("plane"), slots=2) as control_plane:
        yield control_plane


@contextlib.contextmanager
def called_back(directory: Path, *, slots: int) -> Iterator[Running]:
    variables: dict[str, str] = {}
    with running(directory, environment=variables, slots=slots) as control_plane:
        variables.update(environment(control_plane))
        pyflyte(control_plane, "register", "--version", "v1", "eager_family.py")
        yield control_plane


@pytest.fixture
def stubs(plane):
    return plane.stubs()


def launch(stubs, name: str, version: str = "v1", **inputs):
    """Launch a registered launch plan."""
    request = execution_pb2.ExecutionCreateRequest(project=PROJECT, domain=DOMAIN, inputs=literals(**inputs))
    request.spec.launch_plan.CopyFrom(identifier(LAUNCH_PLAN, name, version))
    return stubs.admin.CreateExecution(request).id


def number(value: float):
    found = text("")
    found.scalar.primitive.float_value = value
    return found


def whole(value: int):
    found = text("")
    found.scalar.primitive.integer = value
    return found


def children(plane, parent) -> dict[str, str]:
    """The phases of the children of an execution, by what was run."""
    found = [summary for summary in plane.plane.executions() if summary["parent"] == parent.name]
    return {summary["entity"].rpartition(".")[2]: summary["phase"] for summary in found}


def test_code_is_unpacked_into_the_attempts_own_directory_whatever_register_says(plane, stubs, tmp_path):
    """`pyflyte register` says `--dest-dir /root`, and dynamic tasks hand that on to those they ask for."""
    module = f"places_of_tasks_{secrets.token_hex(4)}"  # nothing an earlier run left behind counts
    (tmp_path / f"{module}.py").write_text(PLACES)
    pyflyte(plane, "register", "--version", "v1", f"{module}.py", directory=tmp_path)
    template = stubs.admin.GetTask(
        common_pb2.ObjectGetRequest(id=identifier(1, f"{module}.where"))
    ).closure.compiled_task.template
    said = Path(template.container.args[list(template.container.args).index("--dest-dir") + 1])
    assert said.is_absolute()  # else this test proves nothing

    execution = ended(stubs, launch(stubs, f"{module}.both"), 60)

    data = stubs.admin.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=execution.id))
    assert set(data.full_outputs.literals) == {"o0", "o1"}, execution.closure.error.message
    seen = [literal.scalar.primitive.string_value.split() for literal in data.full_outputs.literals.values()]
    attempts = plane.directory / "executions" / execution.id.name
    for file, directory, home in seen:
        assert Path(file).is_relative_to(attempts)
        assert Path(file).parent == Path(directory)
        assert Path(home).parent == Path(directory).parent
    assert len({file for file, *_ in seen}) == 2
    assert not os.path.exists(said / f"{module}.py")  # noqa: PTH110 - Path raises where we may not look


def test_an_eager_parent_and_its_children_finish_with_a_single_slot(tmp_path):
    with called_back(tmp_path, slots=1) as plane:
        stubs = plane.stubs()
        parent = launch(stubs, "eager_family.family", n=whole(3))

        execution = ended(stubs, parent, 60)

        data = stubs.admin.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=parent))
        assert data.full_outputs.literals["o0"] == whole(14), execution.closure.error.message
        assert children(plane, parent) == {"double": "SUCCEEDED"}
        assert len([s for s in plane.plane.executions() if s["parent"] == parent.name]) == 2


def test_eagers_clean_up_finds_the_children_by_their_labels_and_aborts_them(plane, stubs):
    """Its filters speak of `execution_tag`, what it sets are labels; and it needs `pyflyte register`."""
    parent = launch(stubs, "eager_family.orphaning", seconds=number(80.0))

    execution = ended(stubs, parent, 60)
    deadline = time.monotonic() + 10
    while children(plane, parent).get("sleeping") != "ABORTED":
        assert time.monotonic() < deadline, children(plane, parent)
        time.sleep(0.1)

    assert children(plane, parent) == {"failing": "FAILED", "sleeping": "ABORTED"}
    assert "not a number" in json.dumps(plane.plane.executions())
    assert execution.closure.error.message


def test_pyflyte_run_returns_at_once_and_its_execution_is_seen_until_it_ends(plane):
    """A wrapped command that ends must not end the sandbox: who drains it sees what is still running."""
    pyflyte(plane, "run", "--remote", "eager_family.py", "sleeping", "--seconds", "3")

    last = plane.plane.executions()[-1]
    assert last["entity"] == "eager_family.sleeping"
    assert last["phase"] in ("QUEUED", "RUNNING")
    deadline = time.monotonic() + 90
    while plane.plane.executions()[-1]["phase"] != "SUCCEEDED":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_callers_flyte_configuration_does_not_reach_an_attempt(tmp_path, monkeypatch):
    """A client secret in `~/.flyte/config.yaml` would beat the environment."""
    home = tmp_path / "home"
    (home / ".flyte").mkdir(parents=True)
    (home / ".flyte" / "config.yaml").write_text("admin: {clientId: x, clientSecretLocation: /secret}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("FLYTECTL_CONFIG", str(home / ".flyte" / "config.yaml"))
    source = (
        "found = [str(p) for p in pathlib.Path.home().rglob('*')] + [os.environ.get('FLYTECTL_CONFIG', '')]\n"
        "(outputs / 'found').write_text(''.join(found))"
    )
    with running(tmp_path / "plane") as control_plane:
        stubs = control_plane.stubs()
        register(stubs, script("looks at home", source))
        execution = ran(stubs, "looks at home")
        (found,) = (control_plane.directory / "executions" / execution.id.name).glob("*/outputs/found")
        assert found.read_text() == ""


def test_an_attribute_of_a_dataclass_is_decoded_on_its_way_into_another_task(plane, stubs):
    """It travels as msgpack inside one literal, and the path into it is in the binding."""
    pyflyte(plane, "register", "--version", "v1", "everyday.py")

    execution = ended(stubs, launch(stubs, "everyday.unpacked", x=whole(4)), 60)

    data = stubs.admin.GetExecutionData(execution_pb2.WorkflowExecutionGetDataRequest(id=execution.id))
    assert data.full_outputs.literals["o0"] == text("b4"), execution.closure.error.message
