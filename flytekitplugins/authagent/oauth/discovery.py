"""Where an issuer's endpoints are (RFC 8414, OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.oauth.message import Request, Response

_TEXTS = ("issuer", "_endpoint", "_uri")


@dataclass(frozen=True)
class Metadata:
    """What is known of an authorization server (RFC 8414 section 2). `None` and empty where it is not said."""

    issuer: str | None = None
    token_endpoint: str | None = None
    authorization_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    revocation_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ()
    grant_types_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False
    introspection_endpoint: str | None = None
    jwks_uri: str | None = None

    def overridden_by(self, local: Metadata) -> Metadata:
        """This, with what `local` says in the place of what was said here: field by field."""
        said = {f.name: getattr(local, f.name) for f in fields(local) if getattr(local, f.name)}
        return replace(self, **said)

    def need(self, name: str) -> str:
        """The endpoint called `name`. Raises `ProviderError` where the server does not have it."""
        found = getattr(self, name)
        if isinstance(found, str) and found:
            return found
        raise ProviderError(
            f"{self.issuer or 'the authorization server'} names no {name}",
            hint=f"this way of logging in is not offered there; or set {name} yourself",
        )


def requests(issuer: str) -> list[Request]:
    """
    The documents to try, in order: OpenID Connect appends its path to the issuer's, RFC 8414 section 3.1 inserts it.
    """
    where = urlsplit(issuer)
    path = where.path.rstrip("/")
    openid = urlunsplit(where._replace(path=f"{path}/.well-known/openid-configuration"))
    oauth = urlunsplit(where._replace(path=f"/.well-known/oauth-authorization-server{path}"))
    return [Request(url, headers=(("Accept", "application/json"),)) for url in (openid, oauth)]


def read(issuer: str, response: Response) -> Metadata:
    """
    What the document says.

    Raises `ProviderError` where it speaks for another issuer (RFC 8414 section 3.3: it must be refused, or one
    issuer could stand in for another) or names no token endpoint.
    """
    document = response.json()
    named = document.get("issuer")
    if not isinstance(named, str) or named.rstrip("/") != issuer.rstrip("/"):
        raise ProviderError(
            f"{response.url} speaks for another issuer than {issuer}",
            hint="write the issuer exactly as its own document spells it",
        )
    found = from_document(document)
    if not found.token_endpoint:
        raise ProviderError(f"{response.url} names no token endpoint", hint="set token_endpoint instead of issuer")
    return found


def from_document(document: dict[str, Any]) -> Metadata:
    """The parts of a document that are used here, those of a wrong type left out."""
    texts = [f.name for f in fields(Metadata) if f.name.endswith(_TEXTS)]
    known: dict[str, Any] = {name: value for name in texts if isinstance(value := document.get(name), str) and value}
    for name in ("token_endpoint_auth_methods_supported", "grant_types_supported"):
        if isinstance(listed := document.get(name), list):
            known[name] = tuple(each for each in listed if isinstance(each, str))
    known["authorization_response_iss_parameter_supported"] = (
        document.get("authorization_response_iss_parameter_supported") is True
    )
    return Metadata(**known)
