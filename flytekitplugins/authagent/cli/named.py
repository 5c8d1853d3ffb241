"""What a configuration of the agent names on this machine, checked for a person."""

from __future__ import annotations

from pathlib import Path

from flytekitplugins.authagent.agent import named_files
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.errors import ConfigError


def check(file: AgentFile, path: Path) -> None:
    """Raise one `ConfigError` with everything that is wrong; `path` is what `file` was read from."""
    found = named_files.problems(file)
    if found:
        hints = dict.fromkeys(problem.hint for problem in found if problem.hint)
        raise ConfigError("; ".join(f"{path}: {problem.args[0]}" for problem in found), hint="; ".join(hints))
