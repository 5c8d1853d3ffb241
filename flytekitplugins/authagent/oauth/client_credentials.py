"""The client credentials grant (RFC 6749 section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request


def request(token_endpoint: str, client: Added, *, scopes: Sequence[str] = (), audience: str | None = None) -> Request:
    """
    Ask for a token of the client itself.

    `audience` is the dialect of Auth0 and flytekit; no RFC names it, so it is sent only where it is set.
    """
    fields, headers = client
    form = [("grant_type", "client_credentials"), *fields]
    if scopes:
        form.append(("scope", " ".join(scopes)))
    if audience:
        form.append(("audience", audience))
    return Request(token_endpoint, tuple(form), (*headers, ("Accept", "application/json")))
