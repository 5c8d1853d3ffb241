"""Token exchange (RFC 8693)."""

from __future__ import annotations

from dataclasses import dataclass

from flytekitplugins.authagent.credential import Credential, Secret, claims
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.oauth.client_authentication import Added
from flytekitplugins.authagent.oauth.message import Request, Response
from flytekitplugins.authagent.oauth.target import Target, token_request

GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"

_TYPES = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN, JWT, ID_TOKEN = _TYPES + "access_token", _TYPES + "jwt", _TYPES + "id_token"


@dataclass(frozen=True)
class Shown:
    """A token that is shown, and what kind of token it is (section 3)."""

    token: Secret
    type: str = ACCESS_TOKEN


def request(
    token_endpoint: str, client: Added, subject: Shown, target: Target, *, actor: Shown | None = None
) -> Request:
    """
    Ask for an access token that speaks for whom `subject` speaks for.

    With `actor` it is delegation: the answer should say in `act` who acts for the subject (section 1.1).
    """
    grant = [
        ("grant_type", GRANT),
        ("subject_token", subject.token.reveal()),
        ("subject_token_type", subject.type),
        ("requested_token_type", ACCESS_TOKEN),
    ]
    if actor:
        grant += [("actor_token", actor.token.reveal()), ("actor_token_type", actor.type)]
    return token_request(token_endpoint, client, grant, target)


def check(response: Response, credential: Credential, asked: Target) -> None:
    """
    Refuse an answer that is not what was asked.

    A server may narrow the scopes and may not widen them, though some do: what would be given then is more than
    anybody asked for. Raises `ProviderError`.
    """
    issued = response.json().get("issued_token_type", ACCESS_TOKEN)  # required by section 2.2.1, left out by some
    if issued not in (ACCESS_TOKEN, JWT):
        raise ProviderError(f"{response.url} issued another type of token than the access token that was asked for")
    wider = set(credential.scopes) - set(asked.scopes)
    if asked.scopes and wider:
        raise ProviderError(
            f"{response.url} gave more scopes than were asked for: {', '.join(sorted(wider)[:8])}",
            hint="let the client that exchanges have no other scopes, or ask for these",
        )


def actor_of(credential: Credential) -> str | None:
    """
    Who acts for the subject, as the token itself says (section 4.1); `None` where it does not.

    A server that ignores `actor_token` answers 200 all the same, so only the token tells.
    """
    act = claims(credential.token).get("act")
    subject = act.get("sub") if isinstance(act, dict) else None
    return subject if isinstance(subject, str) else None
