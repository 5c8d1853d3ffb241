"""A credential as somebody wrote it down, in a file or on a command's output: a bare token, or JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, ValidationError

from flytekitplugins.authagent.credential import Credential, from_token, token
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.oauth import token_response
from flytekitplugins.authagent.providers import Wanted, fixed
from flytekitplugins.authagent.specs import EndpointText, Name, Scopes, Section


class JsonCredential(Section):
    """
    What a file, or a command's output, that begins with `{` holds.

    `expires_at` is seconds since the epoch or an ISO 8601 moment with its offset. There is no `expires_in`: a
    span says nothing in a file, for nobody knows when it began.
    """

    access_token: Annotated[str, Field(repr=False)]
    token_type: str | None = None
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


_KEYS = frozenset(JsonCredential.model_fields) | {"expires_in", "id_token", "refresh_token"}
"""What an error may name: what else a command prints as a key may be a token."""


def read(text: str, wanted: Wanted, *, of: str, provider: str) -> Credential:
    """
    The credential in `text`, which `of` gave.

    Raises `ProviderError` where there is none, `Denied` where it is not for what is `wanted`; the text is not shown.
    """
    if text.startswith("{"):
        return _from_json(text, wanted, of, provider)
    credential = from_token(token(text, of=of), provider=provider)
    fixed.check(credential, wanted, of=of)
    return credential


def _from_json(text: str, wanted: Wanted, of: str, provider: str) -> Credential:
    wrong: set[str] = set()
    found, expires_at = None, None
    try:
        found = JsonCredential.model_validate(json.loads(text))
        expires_at = found.moment()
    except ValidationError as invalid:
        wrong = {str(next(iter(error["loc"]), "")) for error in invalid.errors(include_input=False)}
    except (ValueError, RecursionError):
        found = None
    # Out here, for the context of an error raised up there would have what was read.
    if wrong:
        names = ", ".join(name if name in _KEYS else "another key" for name in sorted(wrong))
        raise ProviderError(
            f"{of} is not a credential: {names}: unknown, missing or of the wrong type",
            hint=f"it may hold {', '.join(JsonCredential.model_fields)}",
        )
    if found is None:
        raise ProviderError(f"{of} is neither a token nor a JSON credential")
    token_response.check_type(found.token_type, of)
    known: dict[str, Any] = {
        "scopes": found.scopes or tuple((found.scope or "").split()),
        "endpoint": found.endpoint,
        "header": found.authorization_metadata_key,
    }
    if expires_at is not None:
        known["expires_at"] = expires_at
    credential = from_token(token(found.access_token, of=of), provider=provider, **known)
    fixed.check(credential, wanted, of=of, audience=found.audience)
    return credential
