"""Where the two kinds of OAuth server that Flyte is used with differ: its own, and everybody else's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidGrantError, InvalidRequestError

from flytekitplugins.authagent.sandbox.client import DEVICE_CODE, HUB, JWT_BEARER, TOKEN_EXCHANGE

PUBLIC_URL = "https://flyte.sandbox.example"
"""What an ordinary identity provider calls the Flyte that its tokens are for."""

HUB_AUDIENCE = "https://hub.sandbox.example"
"""What it calls the hub, to which people show tokens of theirs. Flyte takes none that is for the hub."""

AUDIENCE_OF = {HUB: HUB_AUDIENCE}
"""What tokens for a client are for, where it is an application that others call. Most are not."""


@dataclass(frozen=True)
class Token:
    """
    What a token says, before a dialect spells it. `user` is `None` where the client speaks for itself; `actor` is
    who acts for the user, as RFC 8693 section 4.1 nests them.
    """

    issuer: str
    audience: str
    client_id: str
    user: str | None
    scopes: tuple[str, ...]
    issued_at: int
    expires_at: int
    jti: str
    actor: dict[str, Any] | None = field(default=None)


class Dialect(Protocol):
    """One kind of server: its paths, its claims, its refusals."""

    token_path: str
    authorization_path: str
    jwks_path: str
    endpoints: Mapping[str, str]  # its other endpoints: their name in RFC 8414 -> path
    grant_types: tuple[str, ...]
    scopes: tuple[str, ...]
    authentication_methods: tuple[str, ...]  # those it advertises
    names_itself: bool  # in the answers of its authorization endpoint (RFC 9207)
    assertions: bool  # whether a client may show who it is by a JWT (RFC 7523 section 2.2)
    token_type: str
    typ: str  # of the token's header
    default_scope: str
    rotates: bool
    keeps_issued_at: bool  # a refreshed token has the `iat` of the login, and a new `exp`

    def audience(self, issuer: str) -> str:
        """What the tokens of `issuer` are for, unless somebody asks for another audience."""

    def claims(self, token: Token) -> dict[str, Any]:
        """The claims of `token`."""

    def asked(self, form: Mapping[str, str]) -> str | None:
        """
        The audience that a request names; `None` where it names none.

        Raises `OAuth2Error` for one that is not served, and for parameters that this server does not take.
        """

    def dead_refresh_token(self) -> OAuth2Error:
        """What it answers to a refresh token that is unknown, expired or used up."""


class Internal:
    """flyteadmin's own server, as a real one of release 1.16.8 was seen to answer."""

    token_path, authorization_path, jwks_path = "/oauth2/token", "/oauth2/authorize", "/oauth2/jwks"
    endpoints: Mapping[str, str] = {}
    grant_types: tuple[str, ...] = ("client_credentials", "refresh_token", "authorization_code")
    scopes: tuple[str, ...] = ("all", "offline")
    names_itself = assertions = False
    authentication_methods: tuple[str, ...] = ("client_secret_basic",)
    token_type, typ = "bearer", "JWT"
    default_scope = ""
    rotates = False
    keeps_issued_at = True

    def audience(self, issuer: str) -> str:
        """It is part of flyteadmin, so both have one URL."""
        return issuer

    def claims(self, token: Token) -> dict[str, Any]:
        """A client that speaks for itself has neither a subject nor an issuer, and its own id is left empty."""
        claims: dict[str, Any] = {
            "aud": [token.audience],
            "client_id": token.client_id if token.user else "",
            "exp": token.expires_at,
            "iat": token.issued_at,
            "jti": token.jti,
            "scp": list(token.scopes),
        }
        if token.user:
            claims |= {"iss": token.issuer, "sub": token.user}
        return claims

    def asked(self, form: Mapping[str, str]) -> str | None:
        """It knows no audiences."""
        if "audience" in form:
            raise InvalidRequestError("This server does not take an audience")
        return None

    def dead_refresh_token(self) -> OAuth2Error:
        """Not what RFC 6749 section 5.2 says."""
        return OAuth2Error("The refresh token could not be read", error="server_error", status_code=500)


class External:
    """An ordinary identity provider, which was told to issue the `scp` claim that flyteadmin reads."""

    token_path, authorization_path, jwks_path = "/token", "/authorize", "/jwks"
    endpoints: Mapping[str, str] = {
        "device_authorization_endpoint": "/device_authorization",
        "revocation_endpoint": "/revoke",
        "introspection_endpoint": "/introspect",
        "userinfo_endpoint": "/userinfo",
    }
    grant_types: tuple[str, ...] = (*Internal.grant_types, DEVICE_CODE, TOKEN_EXCHANGE, JWT_BEARER)
    scopes: tuple[str, ...] = ("all", "offline", "offline_access", "openid", "profile", "email")
    names_itself = assertions = True
    authentication_methods: tuple[str, ...] = (
        "client_secret_basic",
        "client_secret_post",
        "client_secret_jwt",
        "private_key_jwt",
    )
    token_type, typ = "Bearer", "at+jwt"
    default_scope = "all"
    rotates = True
    keeps_issued_at = False

    def audience(self, issuer: str) -> str:
        """It serves many applications, Flyte being one."""
        return PUBLIC_URL

    def claims(self, token: Token) -> dict[str, Any]:
        """RFC 9068 section 2.2, with `scp` in the place of `scope`."""
        claims: dict[str, Any] = {
            "iss": token.issuer,
            "sub": token.user or token.client_id,
            "aud": token.audience,
            "client_id": token.client_id,
            "exp": token.expires_at,
            "iat": token.issued_at,
            "nbf": token.issued_at,
            "jti": token.jti,
            "scp": list(token.scopes),
        }
        return claims | ({"act": token.actor} if token.actor else {})

    def asked(self, form: Mapping[str, str]) -> str | None:
        """Flyte and the hub are the applications that it serves; a token is for one of them (RFC 8707 section 2)."""
        named = {form[name] for name in ("audience", "resource") if name in form}
        if len(named) > 1 or not named <= {PUBLIC_URL, HUB_AUDIENCE}:
            raise OAuth2Error("There is no such audience", error="invalid_target")
        return next(iter(named), None)

    def dead_refresh_token(self) -> OAuth2Error:
        """RFC 6749 section 5.2."""
        return InvalidGrantError("The refresh token is unknown, expired or used")


DIALECTS: dict[str, Dialect] = {"internal": Internal(), "external": External()}
"""By the word that `--posture` takes."""
