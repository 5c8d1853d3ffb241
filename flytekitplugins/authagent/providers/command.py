"""A token that a program prints: `authType: ExternalCommand`."""

from __future__ import annotations

from dataclasses import dataclass, field

from flytekitplugins.authagent import program
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.providers import Wanted, written_credential
from flytekitplugins.authagent.specs import CommandSpec


@dataclass(frozen=True)
class CommandProvider:
    """
    Runs a program, without a shell, and takes what it prints: a token, or JSON as in a file.

    What it prints is in no error: what goes wrong may be a token all the same.
    """

    spec: CommandSpec
    kind: str = field(default="command", init=False)
    absent: str = field(default="no command is configured", init=False)
    remedy: str = field(default="write a binding with kind: command", init=False)

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
        """
        The credential that the program prints.

        Raises `ConfigError` where there is no such program, `ProviderUnavailable` where it takes too long,
        `ProviderError` where it fails or prints something else, `Denied` as `fixed.check`.
        """
        name = self.spec.command[0]
        text = program.output(self.spec.command, timeout=self.spec.timeout)
        return written_credential.read(text, wanted, of=f"the output of {name}", provider=self.kind)
