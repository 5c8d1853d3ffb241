"""The realm that the tests' Keycloak imports: clients, a user, two foreign issuers, and Flyte's claims."""

from __future__ import annotations

import json
import secrets
import uuid
from typing import Any

from identity_provider import FLYTE, REDIRECT, Client, User
from joserfc.jwk import ECKey

REALM = "flyte"

HUB = "authagent-hub"
"""The hub's own client, and the audience of the tokens that people show to it: Keycloak knows audiences as clients."""

HUB_CALLBACK = "http://127.0.0.1/consent/callback"

WORKLOAD = "system:serviceaccount:flyte:agent"
"""The subject of the pod's token that client `workload` authenticates with, and that is user alice in the JWT grant."""

FEDERATION, GRANT, HUB_GRANT = "cluster", "cluster-grant", "hub-grant"
"""The cluster's issuer is two identity providers: one kind is for client assertions, another for the JWT grant."""


def new_clients() -> dict[str, Client]:
    """
    The clients, with secrets of this run.

    Beside those that every provider has: `exchange` may exchange tokens (it is in their `aud`), `workload`
    authenticates with a pod's token and has no secret, `grant` may use the JWT grant. `hub` may do all that a hub does,
    and `cli` is people's: its tokens are for the hub, and not for Flyte.
    """
    key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": "ES256"}, auto_kid=True)
    return {
        "basic": Client("odd:client+id %41", "client_secret_basic", f"{secrets.token_urlsafe(32)}+/=%41&: ?"),
        "post": Client("post", "client_secret_post", secrets.token_urlsafe(32)),
        "secret_jwt": Client("secret-jwt", "client_secret_jwt", secrets.token_urlsafe(48)),
        "key_jwt": Client("key-jwt", "private_key_jwt", key=key),
        "exchange": Client("exchange", "client_secret_post", secrets.token_urlsafe(32)),
        "grant": Client("grant", "client_secret_post", secrets.token_urlsafe(32)),
        "workload": Client("workload", "federated_jwt"),
        "app": Client("app", "none"),
        "device": Client("device", "none"),
        "hub": Client(HUB, "client_secret_basic", secrets.token_urlsafe(32)),
        "cli": Client("authagent-cli", "none"),
    }


def registration(client: Client) -> dict[str, Any]:
    """`client` in Keycloak's words."""
    public = client.method == "none"
    attributes: dict[str, str] = {"access.token.header.type.rfc9068": "true"}
    words: dict[str, Any] = {
        "clientId": client.id,
        "publicClient": public,
        "serviceAccountsEnabled": not public,
        "standardFlowEnabled": client.id == "app",
        "directAccessGrantsEnabled": False,
        "attributes": attributes,
        "defaultClientScopes": ["basic", "profile", "flyte"],
        "optionalClientScopes": ["offline_access", "all"],
    }
    if client.secret:
        words |= {"secret": client.secret, "clientAuthenticatorType": "client-secret"}
    match client.id:
        case "app":
            words["redirectUris"] = [REDIRECT, "http://localhost/callback"]
            attributes["pkce.code.challenge.method"] = "S256"  # on a device's client it would be asked of devices too
        case "device":
            attributes["oauth2.device.authorization.grant.enabled"] = "true"
        case "secret-jwt":
            words["clientAuthenticatorType"] = "client-secret-jwt"
        case "key-jwt":
            words["clientAuthenticatorType"] = "client-jwt"
            assert client.key
            attributes |= {"use.jwks.string": "true", "token.endpoint.auth.signing.alg": "ES256"}
            attributes["jwks.string"] = json.dumps({"keys": [client.key.as_dict(private=False)]})
        case "exchange":
            attributes["standard.token.exchange.enabled"] = "true"
            attributes["standard.token.exchange.enableRefreshRequestedTokenType"] = "SAME_SESSION"
        case "workload":
            words["clientAuthenticatorType"] = "federated-jwt"
            attributes |= {"jwt.credential.issuer": FEDERATION, "jwt.credential.sub": WORKLOAD}
        case "authagent-cli":
            words["defaultClientScopes"] = ["basic", "profile", "hub"]
            words |= {"standardFlowEnabled": True, "redirectUris": [REDIRECT]}
        case "authagent-hub":
            words |= {"standardFlowEnabled": True, "redirectUris": [HUB_CALLBACK], "defaultClientScopes": ["of-hub"]}
            attributes["standard.token.exchange.enabled"] = "true"
            attributes["standard.token.exchange.enableRefreshRequestedTokenType"] = "SAME_SESSION"
            attributes["oauth2.jwt.authorization.grant.enabled"] = "true"
            attributes["oauth2.jwt.authorization.grant.idp"] = HUB_GRANT
        case "grant":
            attributes["oauth2.jwt.authorization.grant.enabled"] = "true"
            attributes["oauth2.jwt.authorization.grant.idp"] = GRANT
    return words


def subject(user: User) -> str:
    """What tokens call `user`: Keycloak's own id of theirs."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, user.name))


def scope(name: str, *mappers: dict[str, Any], told: bool = True) -> dict[str, Any]:
    """A client scope; `told` puts its name into `scope`."""
    return {
        "name": name,
        "protocol": "openid-connect",
        "attributes": {"include.in.token.scope": str(told).lower()},
        "protocolMappers": list(mappers),
    }


def mapper(kind: str, **config: str) -> dict[str, Any]:
    """A protocol mapper that writes into access tokens, and into what introspection says."""
    always = {"access.token.claim": "true", "introspection.token.claim": "true"}
    return {
        "name": f"{kind} {' '.join(config.values())}",
        "protocol": "openid-connect",
        "protocolMapper": kind,
        "config": {name.replace("_", "."): value for name, value in config.items()} | always,
    }


def realm(
    clients: dict[str, Client], user: User, cluster: str, lifetime: int, hub: tuple[str, str] | None = None
) -> dict[str, Any]:
    """
    What Keycloak imports. `cluster`: the issuer of pods' tokens. `lifetime`: of access tokens, in seconds. `hub`: the
    name and the public key of an issuer of the hub's own, whose word for whom it asks is taken (the JWT grant).

    Every access token has `scp: ["all"]`, as Flyte reads scopes, and the audiences Flyte and `exchange`, without which
    the latter could not exchange it.
    """
    flyte = scope(
        "flyte",
        mapper("oidc-hardcoded-claim-mapper", claim_name="scp", claim_value='["all"]', jsonType_label="JSON"),
        mapper("oidc-audience-mapper", included_custom_audience=FLYTE),
        mapper("oidc-audience-mapper", included_client_audience=clients["exchange"].id),
    )
    sub = mapper("oidc-sub-mapper")
    for_hub = scope("hub", mapper("oidc-audience-mapper", included_client_audience=HUB))
    # A hub refuses more scopes than it asked for, so those that say how tokens look are not told.
    of_hub = scope("of-hub", *flyte["protocolMappers"][:2], sub, told=False)
    profile = mapper(
        "oidc-usermodel-attribute-mapper",
        user_attribute="username",
        claim_name="preferred_username",
        jsonType_label="String",
        userinfo_token_claim="true",
        id_token_claim="true",
    )
    defaults = f"default-roles-{REALM}"
    return {
        "realm": REALM,
        "enabled": True,
        "sslRequired": "external",
        "accessTokenLifespan": lifetime,
        "revokeRefreshToken": True,
        "refreshTokenMaxReuse": 0,
        "oauth2DeviceCodeLifespan": 600,
        "oauth2DevicePollingInterval": 1,
        "clientScopes": [
            flyte,
            for_hub,
            of_hub,
            scope("all"),
            scope("basic", sub),
            scope("profile", profile),
            scope("offline_access"),
        ],
        "clients": [registration(client) for client in clients.values()],
        "scopeMappings": [{"clientScope": "offline_access", "roles": ["offline_access"]}],
        "users": [
            {
                "id": subject(user),
                "username": user.name,
                "enabled": True,
                "email": f"{user.name}@example.com",
                "emailVerified": True,
                "firstName": user.name.title(),
                "lastName": "Example",
                "credentials": [{"type": "password", "value": user.password, "temporary": False}],
                "realmRoles": [defaults],
                "federatedIdentities": [
                    {"identityProvider": GRANT, "userId": WORKLOAD, "userName": "agent"},
                    *([{"identityProvider": HUB_GRANT, "userId": subject(user), "userName": user.name}] if hub else []),
                ],
            }
        ],
        "identityProviders": [*identity_providers(cluster), *(hubs_own(*hub) if hub else [])],
    }


def identity_providers(cluster: str) -> list[dict[str, Any]]:
    """The issuer `cluster` in both roles. Its tokens may come again, and live for an hour."""
    grant = {
        "issuer": cluster,
        "useJwksUrl": "true",
        "jwksUrl": f"{cluster}/openid/v1/jwks",
        "jwtAuthorizationGrantEnabled": "true",
        "jwtAuthorizationGrantAssertionReuseAllowed": "true",
        "jwtAuthorizationGrantMaxAllowedAssertionExpiration": "3600",
    }
    return [
        {"alias": FEDERATION, "providerId": "kubernetes", "enabled": True, "config": {"issuer": cluster}},
        {"alias": GRANT, "providerId": "jwt-authorization-grant", "enabled": True, "config": grant},
    ]


def hubs_own(issuer: str, key: str) -> list[dict[str, Any]]:
    """The hub as an issuer of assertions, whose public key (PEM) is configured."""
    grant = {
        "issuer": issuer,
        "useJwksUrl": "false",
        "publicKeySignatureVerifier": key,
        "jwtAuthorizationGrantEnabled": "true",
    }
    return [{"alias": HUB_GRANT, "providerId": "jwt-authorization-grant", "enabled": True, "config": grant}]
