"""What `AUTHAGENT_AUTO=1` installs: two properties of flytekit's execution context."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from flytekit.core.context_manager import ExecutionParameters

from flytekitplugins.authagent import environment
from flytekitplugins.authagent.errors import ConfigError


def install(environ: Mapping[str, str]) -> None:
    """
    Give every `current_context()` a `remote` and an `identity`, unless the switch says no or they are there already.

    A switch with a bad value is warned of now and raised when a task uses the remote: an import must not fail for
    it, and a task must not run on without.
    """
    wrong = None
    try:
        if not environment.boolean(environ, "AUTHAGENT_AUTO"):
            return
    except ConfigError as bad_value:
        wrong = bad_value
        warnings.warn(str(bad_value), stacklevel=2)
    for name in ("remote", "identity"):
        if name not in vars(ExecutionParameters):
            setattr(ExecutionParameters, name, _property(name, wrong))


def _property(name: str, wrong: ConfigError | None) -> Any:
    def found(_: ExecutionParameters) -> Any:
        """What a bound task has under this name, by AUTHAGENT_AUTO."""
        if wrong is not None:
            raise wrong.again()
        from flytekitplugins.authagent.handle import sole_active
        from flytekitplugins.authagent.remote import of_process

        return getattr(sole_active() or of_process(), name)()

    return property(found)
