"""Every kind of task knows who launched it, in `pyflyte-execute` processes of its own; and what its deck shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests
from flyte_place import Place, phase

ALICE = "alice control_plane execution_identity=alice control_plane"
TASKS = {
    "plain": (ALICE, 1),
    "asynchronous": (ALICE, 1),
    "with_deck": (ALICE, 1),
    "without_deck": (ALICE, 1),
    "below": (ALICE, 1),
    "spreading": (ALICE, 1),
    "untouched": ("nobody asked", 0),
}


@pytest.fixture(scope="module")
def registered(shared_place: Place) -> Place:
    """The workflows; whoever launches is alice."""
    shared_place.register("launched.py", version="1")
    shared_place.observer = shared_place.issuer.sign("flytectl", "alice", ["all"])[0]
    return shared_place


def launch(place: Place, name: str, inputs: dict[str, Any]) -> Any:
    """The execution, running."""
    remote = place.remote()
    lone = f"launched.{name}" in {f"launched.{task}" for task in (*TASKS, "dynamically")}
    fetch = remote.fetch_task if lone else remote.fetch_launch_plan
    return remote.execute(fetch(name=f"launched.{name}", version="1"), inputs=inputs)


@pytest.mark.timeout(300)
def test_every_kind_of_task_knows_who_launched_it_after_one_question(registered: Place, place: Place) -> None:
    running = {name: launch(place, name, {"x": 1}) for name in TASKS}
    ended = {name: place.ended(execution, timeout=200) for name, execution in running.items()}

    assert {name: e.error and e.error.message for name, e in ended.items()} == dict.fromkeys(TASKS)
    assert {name: e.outputs["o0"] for name, e in ended.items()} == {name: said for name, (said, _) in TASKS.items()}
    asked = place.calls("batch")
    assert asked["GetExecution"] == {"accepted": sum(n for _, n in TASKS.values()), "rejected": 0}
    assert asked["UserInfo"] == asked["GetExecution"]
    assert place.rejected() == 0
    decks = {e["entity"].rpartition(".")[2] for e in place.plane.executions() if e["deck_uris"]}
    assert decks & set(TASKS) == {"with_deck", "below"}


@pytest.mark.timeout(300)
def test_dynamic_map_and_eager_tasks_know_it_too(registered: Place, place: Place) -> None:
    running = {
        "dynamically": launch(place, "dynamically", {"x": 1}),
        "mapped": launch(place, "mapped", {}),
        "eagerly": launch(place, "eagerly", {"x": 1}),
    }
    ended = {name: place.ended(execution, timeout=200) for name, execution in running.items()}

    assert {name: (phase(e), e.error and e.error.message) for name, e in ended.items()} == dict.fromkeys(
        running, ("SUCCEEDED", None)
    )
    assert {name: e.outputs["o0"] for name, e in ended.items()} == {
        "dynamically": ALICE,
        "mapped": [ALICE] * 3,
        "eagerly": ALICE,
    }
    assert place.rejected() == 0


def test_the_deck_as_flyte_keeps_it(registered: Place, place: Place) -> None:
    execution = launch(place, "with_deck", {"x": 1})
    place.ended(execution)

    html = deck_of(place, execution.id.name)

    assert ">Identity</li>" in html
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    assert "Launched by alice control plane" in shown
    assert "Name not known" in shown
    assert "Runs as identity alice control plane" in shown
    token = place.token_file.read_text()
    assert not any(part in html for part in token.split("."))


def deck_of(place: Place, name: str) -> str:
    """The document that Flyte shows for the one deck of an execution."""
    uri = next(uri for e in place.plane.executions() if e["id"]["name"] == name for uri in e["deck_uris"])
    if uri.startswith("http"):
        return requests.get(uri, timeout=10).text
    return Path(uri.removeprefix("file://")).read_text()
