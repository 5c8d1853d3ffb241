"""A token that a program prints: `authType: ExternalCommand`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from flytekitplugins.authagent import program
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.providers import Wanted, written_credential
from flytekitplugins.authagent.specs import CommandSpec

PATIENCE = 300.0
"""Seconds for a program that may be asking the person at the terminal, as for a login of ours."""


@dataclass(frozen=True)
class CommandProvider:
    """
    Runs a program, without a shell, and takes what it prints: a token, or JSON as in a file. `source` configures it.

    What it prints is in no error: what goes wrong may be a token all the same. `at_terminal`: its standard error is
    shown to the person there, who may have to open an address or to enter a code.
    """

    spec: CommandSpec
    source: str = ""
    at_terminal: bool = False
    kind: str = field(default="command", init=False)
    absent: str = field(default="no command is configured", init=False)
    remedy: str = field(default="write a binding with kind: command", init=False)

    @property
    def timeout(self) -> float:
        """Seconds that the program may take; longer at a terminal, where the configuration does not say."""
        if self.at_terminal and "timeout" not in self.spec.model_fields_set:
            return PATIENCE
        return self.spec.timeout

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
        """
        The credential that the program prints.

        Raises `ConfigError` where there is no such program, `ProviderUnavailable` where it takes too long,
        `ProviderError` where it fails or prints something else, `Denied` as `fixed.check`.
        """
        name = self.spec.command[0]
        shown = sys.stderr if self.at_terminal else None
        text = program.output(self.spec.command, timeout=self.timeout, source=self.source, terminal=shown)
        return written_credential.read(text, wanted, of=f"the output of {name}", provider=self.kind)
