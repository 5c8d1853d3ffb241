"""Our errors as Flyte should take them: only what is unavailable for now is worth running the task again."""

from __future__ import annotations

from flytekit.exceptions.user import FlyteRecoverableException

from flytekitplugins.authagent.errors import AuthAgentError, ProviderUnavailable


class UnavailableForNow(ProviderUnavailable, FlyteRecoverableException):  # type: ignore[misc] # flytekit has no types
    """A `ProviderUnavailable` that flytekit writes into the error document as recoverable."""


def for_flyte(error: AuthAgentError) -> AuthAgentError:
    """The same error, recoverable where it says that it is."""
    if error.retryable and not isinstance(error, FlyteRecoverableException):
        return UnavailableForNow(*error.args, hint=error.hint)
    return error
