"""Where an issuer's endpoints are (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.oauth.message import Request, Response


def requests(issuer: str) -> list[Request]:
    """
    The documents to try, in order: OpenID Connect appends its path to the issuer's, RFC 8414 section 3.1 inserts it.
    """
    where = urlsplit(issuer)
    path = where.path.rstrip("/")
    openid = urlunsplit(where._replace(path=f"{path}/.well-known/openid-configuration"))
    oauth = urlunsplit(where._replace(path=f"/.well-known/oauth-authorization-server{path}"))
    return [Request(url, headers=(("Accept", "application/json"),)) for url in (openid, oauth)]


def token_endpoint(issuer: str, response: Response) -> str:
    """
    The token endpoint that the document names.

    Raises `ProviderError` where the document speaks for another issuer (RFC 8414 section 3.3: it must be refused,
    or one issuer could stand in for another) or names no token endpoint.
    """
    document = response.json()
    named = document.get("issuer")
    if not isinstance(named, str) or named.rstrip("/") != issuer.rstrip("/"):
        raise ProviderError(
            f"{response.url} speaks for another issuer than {issuer}",
            hint="write the issuer exactly as its own document spells it",
        )
    endpoint = document.get("token_endpoint")
    if not isinstance(endpoint, str) or not endpoint:
        raise ProviderError(f"{response.url} names no token endpoint", hint="set token_endpoint instead of issuer")
    return endpoint
