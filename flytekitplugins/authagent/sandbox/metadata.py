"""What an OAuth server says about itself (RFC 8414 section 2), in the place of OpenID Connect's document too."""

from __future__ import annotations

from typing import Any

from flytekitplugins.authagent.sandbox.assertion import SIGNATURES
from flytekitplugins.authagent.sandbox.dialect import Dialect


def of(issuer: str, dialect: Dialect) -> dict[str, Any]:
    """What the server of this `dialect` at `issuer` does, and nothing else."""
    document: dict[str, Any] = {
        "issuer": issuer,
        "authorization_endpoint": issuer + dialect.authorization_path,
        "token_endpoint": issuer + dialect.token_path,
        "jwks_uri": issuer + dialect.jwks_path,
        **{name: issuer + path for name, path in dialect.endpoints.items()},
        "grant_types_supported": list(dialect.grant_types),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "scopes_supported": list(dialect.scopes),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*dialect.authentication_methods, "none"],
        "authorization_response_iss_parameter_supported": dialect.names_itself,
    }
    if "revocation_endpoint" in dialect.endpoints:
        document["revocation_endpoint_auth_methods_supported"] = [*dialect.authentication_methods, "none"]
    if "introspection_endpoint" in dialect.endpoints:
        document["introspection_endpoint_auth_methods_supported"] = list(dialect.authentication_methods)
    if dialect.assertions:
        document["token_endpoint_auth_signing_alg_values_supported"] = [*SIGNATURES, "HS256"]
    if "openid" in dialect.scopes:
        document |= {
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "email"],
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
        }
    return document
