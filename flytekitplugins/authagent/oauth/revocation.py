"""Token revocation (RFC 7009)."""

from __future__ import annotations

from typing import Literal

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request, Response


def request(
    revocation_endpoint: str, client: Added, token: Secret, kind: Literal["refresh_token", "access_token"]
) -> Request:
    """Ask that `token` be good for nothing any more. With a refresh token the whole session should end."""
    fields, headers = client
    form = (("token", token.reveal()), ("token_type_hint", kind), *fields)
    return Request(revocation_endpoint, form, (*headers, ("Accept", "application/json")))


def check(response: Response) -> None:
    """
    Whether it was done: 200, also for a token that the server does not know (section 2.2).

    Raises `ProviderUnavailable` where the server could not, `ProviderError` where it would not.
    """
    if not response.is_refusal:
        return
    kind = ProviderUnavailable if response.status == 429 or response.status >= 500 else ProviderError
    raise kind(f"{response.url} answered {response.status} and did not revoke the token")
