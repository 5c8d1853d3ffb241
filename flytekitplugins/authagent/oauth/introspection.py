"""Token introspection (RFC 7662): what an issuer says of a token that says nothing itself."""

from __future__ import annotations

from typing import Any

from flytekitplugins.authagent.credential import Secret, number
from flytekitplugins.authagent.errors import ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request, Response


def request(introspection_endpoint: str, client: Added, token: Secret) -> Request:
    """Ask what `token` is, which is taken for an access token (section 2.1)."""
    fields, headers = client
    form = (("token", token.reveal()), ("token_type_hint", "access_token"), *fields)
    return Request(introspection_endpoint, form, (*headers, ("Accept", "application/json")))


def read(response: Response) -> dict[str, Any] | None:
    """
    The claims of an active token (section 2.2), `None` for any other: only a JSON `true` says that it is active.

    Raises `ProviderUnavailable` where the server cannot say for now, `ProviderError` where it does not answer us at
    all, as it does to a client that it does not know (section 2.3). Neither says anything of the token.
    """
    if not response.is_refusal:
        claims = response.json()
        return claims | _times(claims) if claims.get("active") is True else None
    kind = ProviderUnavailable if response.status == 429 or response.status >= 500 else ProviderError
    refused = response.status in (400, 401, 403)
    raise kind(
        f"{response.url} answered {response.status}",
        hint="check the client that introspects, and that it may" if refused else "",
    )


def _times(claims: dict[str, Any]) -> dict[str, float | None]:
    """The times that the server writes as text, as numbers; `None` for text that is no number, so that none passes."""
    return {name: number(claims[name]) for name in ("exp", "iat", "nbf") if isinstance(claims.get(name), str)}
