"""The JWT bearer grant (RFC 7523 section 2.1), and Entra ID's on-behalf-of, which is spoken like it."""

from __future__ import annotations

from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request
from flytekitplugins.authagent.oauth.target import Target, token_request

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def request(
    token_endpoint: str, client: Added, assertion: Secret, target: Target, *, on_behalf_of: bool = False
) -> Request:
    """
    Ask for a token for whom `assertion` speaks for.

    `on_behalf_of`: Microsoft's dialect, in which the assertion is the user's access token for this client (Microsoft
    identity platform, on-behalf-of flow, first case). It takes scopes and no audience.
    """
    grant = [("grant_type", GRANT), ("assertion", assertion.reveal())]
    if on_behalf_of:
        grant.append(("requested_token_use", "on_behalf_of"))
    return token_request(token_endpoint, client, grant, target)
