"""The sentences that are repeated are sentences which our agent and hub still say."""

from __future__ import annotations

import ast
from pathlib import Path

from flytekitplugins.authagent import own_words

PACKAGE = Path(own_words.__file__).parent


def test_each_sentence_is_said_by_the_agent_or_the_hub() -> None:
    files = [*PACKAGE.glob("agent/*.py"), *PACKAGE.glob("hub/*.py")]
    nodes = (node for file in files for node in ast.walk(ast.parse(file.read_text())))
    said = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert sorted(own_words.SENTENCES - said) == []


def test_others_are_not_repeated() -> None:
    for words in (
        "no rule gives this",
        "no rule gives this.",
        "no rule gives this pl4nted",
        None,
        ["no rule gives this"],
    ):
        expected = "no rule gives this" if words == "no rule gives this" else ""
        assert own_words.said({"error_description": words}) == expected
