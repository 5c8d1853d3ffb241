"""Whatever launches a child in a task, the child acts for the person who launched the task."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "demo"
WORKFLOWS = Path(__file__).with_name("workflows") / "stock_clients.py"


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of the demo can be imported."""
    monkeypatch.syspath_prepend(str(DEMO))
    yield
    for name in ("delegation", "story"):
        sys.modules.pop(name, None)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("demo")
def test_children_of_stock_eager_and_of_pyflyte_in_a_task_act_for_the_person(tmp_path: Path) -> None:
    import delegation
    import story

    with story.sandbox(tmp_path, "--hub", "--posture", "external") as place, ThreadPoolExecutor(2) as threads:
        told = delegation.Delegation(place, tmp_path)

        def launch(entity: str) -> tuple[int, str]:
            launcher = [str(story.BIN / "pyflyte"), "run", "--remote", "--wait", *story.WHERE, str(WORKFLOWS), entity]
            done = told.run("alice", [str(story.BIN / "authagent"), "run", "--for", "1h", "--", *launcher])
            return done.returncode, done.stderr[-1000:]

        for status, stderr in threads.map(launch, ("by_eager", "by_pyflyte")):
            assert status == 0, stderr
        found = [(e["entity"].rpartition(".")[2], e["phase"], e["principal"]) for e in told.executions()]
        counts = story.fetch(place["control"] + "/counts")
    entities = ("by_eager", "by_pyflyte", "whose", "whose")
    assert sorted(found) == [(entity, "SUCCEEDED", "alice") for entity in entities]
    assert sum(rpc["rejected"] for rpc in counts["rpcs"].values()) == 0
    assert counts["exchanges"]["hub"] == 2  # one for what alice launched, its child included
