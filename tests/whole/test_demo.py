"""`make demo` tells its story, and would say so if it went otherwise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

STORY = Path(__file__).parents[2] / "demo" / "story.py"


@pytest.mark.timeout(180)
def test_the_story_is_told_and_its_counts_are_as_they_should_be() -> None:
    done = subprocess.run([sys.executable, STORY], capture_output=True, text=True, timeout=170, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "DEVIATION" not in done.stdout
    assert re.search(r"tokens minted for them: +1,", done.stdout)
    assert re.search(r"RPCs rejected: +0\n", done.stdout)
    examples = {path.stem for path in STORY.parent.parent.joinpath("examples").glob("*.py")}
    told = set(re.findall(r"(\w+)\.\w+ +(?:SUCCEEDED|FAILED)", done.stdout))
    assert told == {name for name in examples if not name.startswith("test_")}
