"""What `AUTHAGENT_AUTO=1` installs: one property on flytekit's execution context."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flytekit.core.context_manager import ExecutionParameters

from flytekitplugins.authagent import environment
from flytekitplugins.authagent.errors import ConfigError

if TYPE_CHECKING:
    from flytekit.remote import FlyteRemote


def install(environ: Mapping[str, str]) -> None:
    """
    Give every `current_context()` a `remote`, unless the switch says no or somebody has put one there already.

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
    if "remote" not in vars(ExecutionParameters):
        ExecutionParameters.remote = _property(wrong)


def _property(wrong: ConfigError | None) -> Any:
    def remote(_: ExecutionParameters) -> FlyteRemote:
        """An authenticated `FlyteRemote`, by AUTHAGENT_AUTO."""
        if wrong is not None:
            raise wrong.again()
        from flytekitplugins.authagent.handle import sole_active
        from flytekitplugins.authagent.remote import of_process

        return (sole_active() or of_process()).remote()

    return property(remote)
