"""
Everything this package raises.

* AuthAgentError
  x ConfigError              what we were told cannot be used
  x NoCredential             nothing we were told to ask had one
  x ProviderError            a source we were told to use is broken
    + ProviderUnavailable      ... for now; asking again is reasonable
      + NameNotResolved          this machine cannot resolve the name of the source
  x Denied                   the agent, or the identity provider, will not give us what we asked for
    + Rejected                 Flyte will not take what we were given
    + TooShort                 no credential lives as long as was asked

The message says what happened, `hint` says what to do about it. Neither may hold a secret: Flyte copies
both into the error document that its console shows to everyone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Attempt:
    """A provider that was asked and had no credential: why, and what would configure it."""

    provider: str
    reason: str
    remedy: str = ""


class AuthAgentError(Exception):
    """Base of every error this package raises on purpose."""

    error_code = "AUTHAGENT:ERROR"  # what flytekit reports as the code of the failed task
    exit_code = 1  # what the command line ends with
    retryable = False  # whether Flyte should run the task again

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def again(self) -> AuthAgentError:
        """The same error anew, for another caller: one exception raised in two threads mixes their tracebacks."""
        return type(self)(*self.args, hint=self.hint)

    def __str__(self) -> str:
        message = Exception.__str__(self)  # not super(): a sibling of Flyte's would add its own prefix
        if not self.hint or self.hint in message:  # flytekit rewrites args from str(error) in local runs
            return message
        return f"{message} (hint: {self.hint})"


class ConfigError(AuthAgentError):
    """What we were told cannot be used: an unknown key, a bad value, a loose file."""

    error_code = "AUTHAGENT:CONFIG"
    exit_code = 2


class NoCredential(AuthAgentError):
    """
    Nothing we were told to ask had a credential. `attempts` are all that was asked, in order.

    `lists_attempts`: whether they stand in the text of the error too, behind the hint.
    """

    error_code = "AUTHAGENT:NO_CREDENTIAL"
    exit_code = 3

    def __init__(
        self, message: str, *, hint: str = "", attempts: tuple[Attempt, ...] = (), lists_attempts: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.attempts, self.lists_attempts = attempts, lists_attempts

    def again(self) -> NoCredential:
        """See `AuthAgentError`."""
        return type(self)(*self.args, hint=self.hint, attempts=self.attempts, lists_attempts=self.lists_attempts)

    def __str__(self) -> str:
        text = super().__str__()
        tried = "; ".join(f"{a.provider}: {a.reason} ({a.remedy})" for a in self.attempts)
        return f"{text}\nTried: {tried}" if self.lists_attempts and tried not in text else text


class ProviderError(AuthAgentError):
    """A source we were told to use is broken."""

    error_code = "AUTHAGENT:PROVIDER"
    exit_code = 3


class ProviderUnavailable(ProviderError):
    """A source we were told to use is broken for now; asking again is reasonable."""

    error_code = "AUTHAGENT:UNAVAILABLE"
    exit_code = 5
    retryable = True


class NameNotResolved(ProviderUnavailable):
    """This machine cannot resolve a name. A daemon asks again; a command ends as for any other local fault."""

    exit_code = 2


class Denied(AuthAgentError):
    """The agent, or the identity provider, will not give this caller what it asked for."""

    error_code = "AUTHAGENT:DENIED"
    exit_code = 4


class TooShort(Denied):
    """No credential lives as long as was asked."""


class Rejected(Denied):
    """Flyte does not take the credential, and a fresh one would not help."""

    error_code = "AUTHAGENT:REJECTED"
