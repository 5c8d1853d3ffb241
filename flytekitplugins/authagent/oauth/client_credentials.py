"""The client credentials grant (RFC 6749 section 4.4)."""

from __future__ import annotations

from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.oauth.target import Target, token_request


def request(token_endpoint: str, client: Added, target: Target) -> Request:
    """Ask for a token of the client itself."""
    return token_request(token_endpoint, client, [("grant_type", "client_credentials")], target)
