"""Every kind of task, run by the executor in `pyflyte-execute` processes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flyte_place import DOMAIN, PROJECT, WORKFLOWS, Place, phase

OURS = f"{PROJECT}/{DOMAIN} FlyteRemote {DOMAIN}"

TASKS = {
    "plain": OURS,
    "asynchronous": OURS,
    "with_deck": OURS,
    "cached": OURS,
    "retried": OURS,
    "below": OURS,
    "undeclared": OURS,
    "spreading": OURS,
    "without": "False",
    "dynamically": OURS,
}
PLANS: dict[str, Any] = {
    "mapped": [OURS] * 3,
    "partly_mapped": [OURS] * 2,
    "eagerly": OURS,
    "stock": OURS,
}


@pytest.fixture(scope="module")
def registered(shared_place: Place) -> Iterator[Place]:
    """The workflows twice: shipped with the registration, and found in the image."""
    shared_place.register("kinds.py", version="fast")
    shared_place.register("--copy", "none", "kinds.py", version="image")
    yield shared_place


@pytest.fixture
def everything(registered: Place, place: Place) -> dict[str, Any]:
    """All launched at once, then waited for: the processes overlap."""
    place.task_environment["PYTHONPATH"] = str(WORKFLOWS)
    remote = place.remote()
    launched = {
        (kind, version): remote.execute(remote.fetch_task(name=f"kinds.{kind}", version=version), inputs={"x": 1})
        for kind in TASKS
        for version in (("fast", "image") if kind == "plain" else ("fast",))
    }
    for plan in PLANS:
        inputs = {} if "mapped" in plan else {"x": 1}
        found = remote.fetch_launch_plan(name=f"kinds.{plan}", version="fast")
        launched[plan, "fast"] = remote.execute(found, inputs=inputs)
    found = remote.fetch_launch_plan(name="kinds.eagerly_configured", version="fast")
    launched["eagerly_configured", "fast"] = remote.execute(found, inputs={"remote": 1, "ss": 2})
    return {key: place.ended(execution, timeout=240) for key, execution in launched.items()}


@pytest.mark.timeout(300)
def test_every_kind_of_task_runs_in_flyte_and_no_call_is_rejected(everything: dict[str, Any], place: Place) -> None:
    wanted = {(kind, "fast"): output for kind, output in (TASKS | PLANS).items()}
    wanted |= {("plain", "image"): OURS, ("eagerly_configured", "fast"): OURS}

    ended = {key: (phase(e), e.error and e.error.message) for key, e in everything.items()}
    assert ended == dict.fromkeys(wanted, ("SUCCEEDED", None))
    assert {key: e.outputs["o0"] for key, e in everything.items()} == wanted
    assert place.rejected() == 0
    assert place.counts.snapshot()["expired_tokens"] == 0
    decks = {e["entity"]: e["deck_uris"] for e in place.plane.executions() if e["deck_uris"]}
    assert {name.rpartition(".")[2] for name in decks} >= {"with_deck", "below", "eagerly", "stock"}
