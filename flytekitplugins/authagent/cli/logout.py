"""`authagent logout`: the login ends, here and at the identity provider."""

from __future__ import annotations

import argparse
import sys

from flytekitplugins.authagent.cli import option, person
from flytekitplugins.authagent.errors import NoCredential, ProviderError, ProviderUnavailable
from flytekitplugins.authagent.oauth import revocation
from flytekitplugins.authagent.oauth.discovery import Metadata
from flytekitplugins.authagent.providers import Wanted
from flytekitplugins.authagent.providers.oauth_client import discover
from flytekitplugins.authagent.providers.person import PersonProvider
from flytekitplugins.authagent.session import Session


def run(arguments: list[str]) -> int:
    """
    Revoke the login (RFC 7009) and forget it. Raises our errors.

    Where the provider cannot be reached nothing is forgotten, so that it can be tried again.
    """
    parser = argparse.ArgumentParser(
        prog="authagent logout",
        description="End the login: revoke its tokens at the identity provider, and forget them here.",
    )
    option.add_endpoint(parser, "the Flyte to log out of, where it is not the configured one")
    option.add_scopes(parser, "the scopes that it was asked with")
    parser.add_argument("--forget", action="store_true", help="only forget it here, also where it cannot be read")
    options = parser.parse_args(arguments)
    provider = person.provider(options.endpoint, kind="pkce")
    key = provider.key(Wanted(scopes=tuple(options.scope)))
    if not options.forget:
        session = provider.store.load(key) or provider.store.of_pyflyte(key)
        if session is None and provider.store.trouble:
            raise NoCredential(
                f"no login is in a file, and the keyring cannot be read ({provider.store.trouble})",
                hint="if a login is in the keyring, unlock the keyring and try again; if not, there is no login to end",
            )
        if session is None:
            raise NoCredential("nobody is logged in", hint="`authagent status` says what is configured")
        said = _revoke(provider, session)
    else:
        said = "Forgotten. Tokens of this login are good until they end."
    if trouble := provider.store.delete(key):
        said = f"No login is in a file. A login in the keyring stays there: the keyring cannot be used ({trouble})."
    provider.store.forget_pyflytes(key)
    sys.stderr.write(said + "\n")
    return 0


def _revoke(provider: PersonProvider, session: Session) -> str:
    """End it at the provider; what to tell the person about it. Raises `ProviderUnavailable`."""
    try:
        endpoint = session.revocation_endpoint or _metadata(provider, session).revocation_endpoint
        if not endpoint:
            return "Logged out here. The identity provider cannot revoke tokens: they are good until they end."
        return _revoke_at(endpoint, provider, session)
    except ProviderUnavailable as failed:
        raise ProviderUnavailable(
            str(failed.args[0]), hint="try again; or `authagent logout --forget` forgets the login here only"
        ) from None


def _revoke_at(endpoint: str, provider: PersonProvider, session: Session) -> str:
    client = provider.as_client_of(session)
    if session.refresh_token:
        sent = revocation.request(endpoint, client, session.refresh_token, "refresh_token")
        revocation.check(provider.client.send(sent))
    sent = revocation.request(endpoint, client, session.credential.token, "access_token")
    response = provider.client.send(sent)
    # Nobody stores an access token that is a JWT, and many servers refuse to revoke it (RFC 7009 section 2.2.1).
    if response.status == 200 or session.refresh_token:
        return "Logged out. What was given out before is good until it ends, where it is checked offline."
    return "Logged out here. The identity provider did not revoke the token: it is good until it ends."


def _metadata(provider: PersonProvider, session: Session) -> Metadata:
    """What the issuer says of itself; Flyte does not say where tokens are revoked."""
    try:
        issuer = session.issuer or provider.client.metadata.issuer
        return discover(issuer, provider.client.door, needed=False) if issuer else Metadata()
    except ProviderUnavailable:
        raise
    except ProviderError:
        return Metadata()
