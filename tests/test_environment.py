"""Booleans that are booleans."""

from __future__ import annotations

import pytest

from flytekitplugins.authagent import environment
from flytekitplugins.authagent.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("true", True), ("TRUE", True), ("0", False), ("False", False), ("", False)]
)
def test_booleans(text: str, value: bool) -> None:
    assert environment.boolean({"AUTHAGENT_AUTO": text}, "AUTHAGENT_AUTO") is value


@pytest.mark.parametrize("text", ["yes", "on", "2", " 1", "truee"])
def test_anything_else_is_an_error_that_names_the_variable(text: str) -> None:
    with pytest.raises(ConfigError, match="AUTHAGENT_AUTO cannot be"):
        environment.boolean({"AUTHAGENT_AUTO": text}, "AUTHAGENT_AUTO")


def test_a_pod_is_where_flyte_says_so() -> None:
    assert environment.in_pod({"FLYTE_INTERNAL_EXECUTION_ID": "x"})
    assert not environment.in_pod({"FLYTE_INTERNAL_EXECUTION_ID": ""})
