"""A token, a JSON credential or a projected token in a file, read again whenever it is needed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.config import EndpointText, Name, Scopes, Section
from flytekitplugins.authagent.credential import MAX_TOKEN, Credential, from_token, token
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.providers import Wanted, fixed


class JsonCredential(Section):
    """
    What a file that begins with `{` holds.

    `expires_at` is seconds since the epoch or an ISO 8601 moment with its offset. There is no `expires_in`: a
    span says nothing in a file, for nobody knows when it began.
    """

    access_token: Annotated[str, Field(repr=False)]
    token_type: Literal["Bearer", "bearer"] = "Bearer"  # noqa: S105 - the name of a type
    expires_at: float | str | None = None
    scope: str | None = None
    scopes: Scopes = ()
    audience: Name | None = None
    endpoint: EndpointText | None = None
    authorization_metadata_key: Name | None = None

    def moment(self) -> float | None:
        """`expires_at` as seconds since the epoch. Raises `ValueError`."""
        if not isinstance(self.expires_at, str):
            return self.expires_at
        moment = datetime.fromisoformat(self.expires_at.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError("no offset")
        return moment.timestamp()


@dataclass(frozen=True)
class FileProvider:
    """Reads the file at every fetch: kubelet and the like replace it long before the old token ends."""

    path: Path | None
    in_pod: bool = False
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

        Raises `ConfigError` where the file is loose, `ProviderError` where it is missing or holds no token.
        """
        if self.path is None:
            return None
        try:
            content = trust.read(self.path, secret=not self.in_pod, limit=2 * MAX_TOKEN)
        except (FileNotFoundError, NotADirectoryError):
            raise ProviderError(f"{self.path} is not there", hint="whoever writes the token has not done so") from None
        try:
            text = content.decode("ascii").strip()
        except UnicodeDecodeError:
            raise ProviderError(f"{self.path} does not hold a token: it is not text") from None
        if text.startswith("{"):
            return self._json(text, wanted)
        credential = from_token(token(text, of=str(self.path)), provider=self.kind)
        fixed.check(credential, wanted, of=str(self.path))
        return credential

    def _json(self, text: str, wanted: Wanted) -> Credential:
        try:
            found = JsonCredential.model_validate(json.loads(text))
            expires_at = found.moment()
        except ValidationError as wrong:
            names = ", ".join(".".join(map(str, e["loc"])) for e in wrong.errors(include_input=False))
            raise ProviderError(
                f"{self.path} is not a credential: {names}: unknown, missing or of the wrong type",
                hint=f"it may hold {', '.join(JsonCredential.model_fields)}",
            ) from None
        except (ValueError, RecursionError):
            raise ProviderError(f"{self.path} is neither a token nor a JSON credential") from None
        known: dict[str, Any] = {
            "scopes": found.scopes or tuple((found.scope or "").split()),
            "endpoint": found.endpoint,
            "header": found.authorization_metadata_key,
        }
        if expires_at is not None:
            known["expires_at"] = expires_at
        credential = from_token(token(found.access_token, of=str(self.path)), provider=self.kind, **known)
        fixed.check(credential, wanted, of=str(self.path), audience=found.audience)
        return credential
