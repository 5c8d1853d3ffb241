"""`make demo` tells its story, and would say so if it went otherwise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DELEGATION = Path(__file__).parents[2] / "demo" / "delegation.py"
STORY = Path(__file__).parents[2] / "demo" / "story.py"


@pytest.mark.timeout(420)
def test_the_story_is_told_and_its_counts_are_as_they_should_be() -> None:
    done = subprocess.run([sys.executable, STORY], capture_output=True, text=True, timeout=400, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "DEVIATION" not in done.stdout
    assert re.search(r"tokens minted for them: +1,", done.stdout)
    assert re.search(r"RPCs rejected: +0\n", done.stdout)
    examples = {path.stem for path in STORY.parent.parent.joinpath("examples").glob("*.py")}
    told = set(re.findall(r"(\w+)\.\w+ +(?:SUCCEEDED|FAILED)", done.stdout))
    assert told == {name for name in examples if not name.startswith("test_")} - {"acts_for_you"}


@pytest.mark.timeout(420)
def test_the_second_part_shows_each_person_as_the_principal_and_a_forger_gets_nothing() -> None:
    done = subprocess.run([sys.executable, DELEGATION], capture_output=True, text=True, timeout=400, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "DEVIATION" not in done.stdout
    for person in ("alice", "bob"):
        assert len(re.findall(rf"acts_for_you\.\w+ .* SUCCEEDED +principal {person}\n", done.stdout)) == 2
    assert re.search(r"acts_for_you\.main .* FAILED +principal alice, so Flyte says", done.stdout)
    assert "nobody has consented" in done.stdout
    assert re.search(r"consents: +2,", done.stdout)
    assert re.search(r"revocations: +2,", done.stdout)
