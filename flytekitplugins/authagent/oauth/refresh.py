"""The refresh grant (RFC 6749 section 6)."""

from __future__ import annotations

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.errors import Denied, ProviderError
from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.target import Target, token_request


def request(token_endpoint: str, client: Added, refresh_token: Secret, target: Target) -> Request:
    """
    Ask for the next token of a session.

    Scopes may be left out, which means those of the session, and must not be wider than them.
    """
    grant = [("grant_type", "refresh_token"), ("refresh_token", refresh_token.reveal())]
    return token_request(token_endpoint, client, grant, target)


def check(response: Response, sent: Request) -> None:
    """
    Raises `Denied` for an answer that means that the session has ended, in words that only a refresh is answered with.

    flyteadmin's own server says `server_error` with 500 to a refresh token that is expired or is none; a broken
    server does not say it in JSON.
    """
    if response.status != 500:
        return
    try:
        code = response.json().get("error")
    except ProviderError:
        return
    if code == "server_error":
        raise Denied(f"{response.url} does not take the login's refresh token any more", hint="run `authagent login`")
