"""A token, a JSON credential or a projected token in a file, read again whenever it is needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.credential import MAX_TOKEN, Credential
from flytekitplugins.authagent.errors import ConfigError, ProviderError
from flytekitplugins.authagent.providers import Wanted, written_credential


@dataclass(frozen=True)
class FileProvider:
    """
    Reads the file at every fetch: kubelet and the like replace it long before the old token ends.

    `source` is the variable, the file or the key that names it.
    """

    path: Path | None
    in_pod: bool = False
    source: str = "path"
    kind: str = field(default="file", init=False)

    @property
    def absent(self) -> str:
        """See `Provider`."""
        return f"{self.path} is not there" if self.path else "AUTHAGENT_TOKEN_FILE is not set"

    @property
    def remedy(self) -> str:
        """See `Provider`."""
        return "set AUTHAGENT_TOKEN_FILE to a file that holds an access token"

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential | None:
        """
        The credential in the file, `None` where no file is configured.

        Raises `ConfigError` where the file is missing, loose, or holds no token.
        """
        if self.path is None:
            return None
        content = trust.read_named(self.path, self.source, secret=not self.in_pod, limit=2 * MAX_TOKEN)
        try:
            text = content.decode("ascii").strip()
            return written_credential.read(text, wanted, of=str(self.path), provider=self.kind)
        except UnicodeDecodeError:
            raise ConfigError(f"{self.source}: {self.path} does not hold a token: it is not text") from None
        except ProviderError as wrong:
            raise ConfigError(f"{self.source}: {wrong.args[0]}", hint=wrong.hint) from None
