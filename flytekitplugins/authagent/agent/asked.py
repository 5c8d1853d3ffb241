"""What a caller asks of the token endpoint, read from its form."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import parse_qsl

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent.refusal import Refusal, invalid_request

PARAMETERS = (
    "grant_type",
    "audience",
    "resource",
    "scope",
    "requested_token_type",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_subject",
    "min_lifetime",
    "execution",
    "task",
    "client_id",
    "client_secret",
)
"""Every parameter that is understood. One that is not might have narrowed the token, so it is refused."""

_FIELDS = len(PARAMETERS) * 2
_LIFETIME_DIGITS = 9


@dataclass(frozen=True)
class Asked:
    """`execution`, `task` and `subject` are the caller's own words. `min_lifetime` is in seconds."""

    audience: str | None = None
    resource: str | None = None
    scopes: tuple[str, ...] = ()
    subject: str | None = None
    min_lifetime: int = 0
    execution: str | None = None
    task: str | None = None


def read(body: bytes, authorization: str | None) -> Asked:
    """
    The request in `body`, a form, and in the `Authorization` header, which means nothing but must not hold a secret.

    Raises `Refusal` for anything that is not understood or cannot be honoured.
    """
    form = _form(body)
    _check_client(form, authorization)
    _check_grant(form)
    if form.get("requested_token_type", wire.ACCESS_TOKEN_TYPE) != wire.ACCESS_TOKEN_TYPE:
        raise invalid_request("only access tokens are issued here")
    for name in ("subject_token", "subject_token_type", "actor_token", "actor_token_type"):
        if name in form:
            raise invalid_request(f"{name} does not belong to the grant client_credentials")
    return Asked(
        audience=form.get("audience"),
        resource=form.get("resource"),
        scopes=tuple(form.get("scope", "").split()),
        subject=form.get("requested_subject"),
        min_lifetime=_seconds(form.get("min_lifetime", "0")),
        execution=form.get("execution"),
        task=form.get("task"),
    )


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=_FIELDS
        )
    except ValueError:  # UnicodeDecodeError is one
        raise invalid_request("the body is not a form") from None
    form = dict(pairs)
    if len(form) < len(pairs):
        raise invalid_request("a parameter is repeated")
    if unknown := form.keys() - set(PARAMETERS):
        shown = next((name for name in sorted(unknown) if name.isidentifier() and len(name) < 64), "one of them")
        raise invalid_request(f"unknown parameter: {shown}")
    return {name: value for name, value in form.items() if value}  # RFC 6749 section 3.2: empty means left out


def _check_client(form: dict[str, str], authorization: str | None) -> None:
    """OAuth libraries insist on sending a client. The kernel has said who asks, so a secret would prove nothing."""
    secret = form.get("client_secret", "")
    if authorization:
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise Refusal(401, "invalid_client", "the kernel says who you are; send no Authorization header")
        try:
            secret = secret or base64.b64decode(encoded, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            raise Refusal(401, "invalid_client", "the Authorization header cannot be read") from None
    if secret:
        raise Refusal(401, "invalid_client", "no client has a secret here; leave it empty")


def _check_grant(form: dict[str, str]) -> None:
    grant = form.get("grant_type")
    if grant is None:
        raise invalid_request("grant_type is missing")
    if grant == wire.TOKEN_EXCHANGE:
        raise Refusal(400, "unsupported_grant_type", "no upstream of this agent can exchange tokens")
    if grant != wire.CLIENT_CREDENTIALS:
        raise Refusal(400, "unsupported_grant_type", f"the grant is {wire.CLIENT_CREDENTIALS}")


def _seconds(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _LIFETIME_DIGITS:
        return int(text)
    raise invalid_request("min_lifetime is a number of seconds")
