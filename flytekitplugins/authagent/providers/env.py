"""A token in an environment variable."""

from __future__ import annotations

import os
import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field

from flytekitplugins.authagent.credential import Credential, Secret, from_token, token
from flytekitplugins.authagent.errors import ConfigError, ProviderError
from flytekitplugins.authagent.providers import Wanted, fixed

_taken: dict[str, Secret | ConfigError] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class EnvProvider:
    """
    Takes the token out of the environment, so that no process started from here inherits it.

    It is remembered for this process and the ones it forks. A new value in the variable replaces it. `is_named`: a
    configuration names the variable, so that it must be set.
    """

    variable: str = "AUTHAGENT_TOKEN"
    environ: MutableMapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    is_named: bool = False
    kind: str = field(default="env", init=False)

    @property
    def absent(self) -> str:
        """See `Provider`."""
        return f"{self.variable} is not set"

    @property
    def remedy(self) -> str:
        """See `Provider`."""
        return f"set {self.variable} to an access token"

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential | None:
        """The token, `None` where the variable is not set, `ConfigError` where it holds no token."""
        secret = take(self.variable, self.environ)
        if secret is None and self.is_named:
            raise ConfigError(f"variable: {self.variable} is not set", hint=self.remedy)
        if secret is None:
            return None
        credential = from_token(secret, provider=self.kind)
        fixed.check(credential, wanted, of=self.variable)
        return credential


def take(variable: str, environ: MutableMapping[str, str]) -> Secret | None:
    """
    The token of `variable`, which no longer stands in `environ` afterwards.

    Raises `ConfigError` for one that is not a token, each time: it must not count as none once it is taken.
    """
    with _lock:
        text = environ.pop(variable, None)
        if text:
            _taken[variable] = _read(text.strip(), variable)
        elif text is not None:
            _taken.pop(variable, None)
        found = _taken.get(variable)
    if isinstance(found, ConfigError):
        raise found.again()
    return found


def _read(text: str, variable: str) -> Secret | ConfigError:
    try:
        return token(text, of=variable)
    except ProviderError as wrong:
        return ConfigError(str(wrong.args[0]), hint=wrong.hint)


os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined] # threading's own way
