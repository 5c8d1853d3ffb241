"""What a caller asks of the token endpoint, read from its form."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl

from flytekitplugins.authagent import wire
from flytekitplugins.authagent.agent.http import FORM, Request
from flytekitplugins.authagent.agent.refusal import Refusal, invalid_request
from flytekitplugins.authagent.bounded_cache import text_size
from flytekitplugins.authagent.credential import MAX_TOKEN, Secret
from flytekitplugins.authagent.oauth import client_authentication, token_exchange
from flytekitplugins.authagent.oauth.token_exchange import Shown

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
    "client_assertion",
    "client_assertion_type",
)
"""Every parameter that is understood. One that is not might have narrowed the token, so it is refused."""

_PARAMETERS = frozenset(PARAMETERS)
_FIELDS = len(PARAMETERS) * 2
_LIFETIME_DIGITS = 9

_EXECUTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*(:[A-Za-z0-9][A-Za-z0-9_.\-]*){2}")
_LONGEST_EXECUTION = 256

MAX_MEMORABLE = 2048
"""Bytes that a request says at most if it is remembered."""

_TOKEN_TYPES = (token_exchange.ACCESS_TOKEN, token_exchange.JWT, token_exchange.ID_TOKEN)


@dataclass(frozen=True)
class Asked:
    """
    What is asked. `execution`, `task` and `subject` are the caller's own words. `scopes` are a set, and sorted,
    so that their order makes no difference. `min_lifetime` is in seconds.

    `subject_token` and `actor_token` are for the grant token exchange. `shown` is the caller's `client_assertion`: it
    says who asks, not what, so it does not count when two requests are compared.
    """

    audience: str | None = None
    resource: str | None = None
    scopes: tuple[str, ...] = ()
    subject: str | None = None
    min_lifetime: int = 0
    execution: str | None = None
    task: str | None = None
    subject_token: Shown | None = None
    actor_token: Shown | None = None
    shown: Secret | None = field(default=None, compare=False)

    @property
    def is_memorable(self) -> bool:
        """
        Whether it may be kept for the next time: not if it brought a secret, nor if it is long, for what callers say
        at length must not fill the memory.
        """
        return not (self.subject_token or self.shown) and self.size <= MAX_MEMORABLE

    @property
    def size(self) -> int:
        """Bytes of what was said."""
        return text_size(self.audience, self.resource, self.subject, self.execution, self.task, *self.scopes)

    def as_workload(self) -> Asked:
        """
        For one whose callers exchange what attests them (RFC 8693): a lone JWT is whom it is about, and no more.

        So a node's agent, and any OAuth client, can ask a hub by an exchange of the pod's projected token.
        """
        subject = self.subject_token
        if self.shown is not None or subject is None or subject.type != token_exchange.JWT:
            return self
        return replace(self, shown=subject.token, subject_token=None)


def check_form(request: Request) -> None:
    """Raises `Refusal` where the parameters of `request` are not in a form."""
    if request.content_type != FORM:
        raise Refusal(415, "invalid_request", f"send {FORM.decode()}")
    if request.query is not None:
        raise invalid_request("parameters belong into the body, not into the URL")


def read_child(body: bytes, authorization: str | None) -> tuple[str, Secret | None]:
    """
    The execution that a request to cover a child names, and what shows who asks: in the form, or as a bearer token.

    Raises `Refusal`.
    """
    form = _form(body)
    if unknown := form.keys() - {"execution", "client_assertion", "client_assertion_type"}:
        raise invalid_request(f"{sorted(unknown)[0]} does not belong here")
    scheme, _, bearer = (authorization or "").partition(" ")
    shown = Secret(bearer.strip()) if scheme.lower() == "bearer" and bearer.strip() else _assertion(form)
    return execution(form.get("execution", "")), shown


def execution(text: str) -> str:
    """`text` if it is `project:domain:name`, each of letters that Flyte takes. Raises `Refusal`."""
    if len(text) > _LONGEST_EXECUTION or not _EXECUTION.fullmatch(text):
        raise invalid_request("write the execution as PROJECT:DOMAIN:NAME")
    return text


def read(body: bytes, authorization: str | None, *, exchanges: bool = True) -> Asked:
    """
    The request in `body`, a form, and in the `Authorization` header, which means nothing but must not hold a secret.

    `exchanges`: whether this agent exchanges tokens that callers show.

    Raises `Refusal` for anything that is not understood or cannot be honoured.
    """
    form = _form(body)
    _check_client(form, authorization)
    exchange = _is_exchange(form, exchanges=exchanges)
    if form.get("requested_token_type", wire.ACCESS_TOKEN_TYPE) != wire.ACCESS_TOKEN_TYPE:
        raise invalid_request("only access tokens are issued here")
    return Asked(
        audience=form.get("audience"),
        resource=form.get("resource"),
        scopes=tuple(sorted(set(form.get("scope", "").split()))),
        subject=form.get("requested_subject"),
        min_lifetime=_seconds(form.get("min_lifetime", "0")),
        execution=form.get("execution"),
        task=form.get("task"),
        subject_token=_token(form, "subject_token", exchange=exchange, needed=exchange),
        actor_token=_token(form, "actor_token", exchange=exchange),
        shown=_assertion(form),
    )


def _token(form: dict[str, str], name: str, *, exchange: bool, needed: bool = False) -> Shown | None:
    """A token that is shown, and its type (RFC 8693 section 2.1)."""
    token, kind = form.get(name), form.get(name + "_type")
    if token is None and kind is None and not needed:
        return None
    if not exchange:
        raise invalid_request(f"{name} does not belong to the grant {wire.CLIENT_CREDENTIALS}")
    if token is None or kind is None:
        raise invalid_request(f"{name} and {name}_type belong together")
    if kind not in _TOKEN_TYPES:
        raise invalid_request(f"{name}_type is none of {', '.join(_TOKEN_TYPES)}")
    if len(token) > MAX_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise invalid_request(f"{name} is no token")
    return Shown(Secret(token), kind)


def _assertion(form: dict[str, str]) -> Secret | None:
    """What shows who asks (RFC 7523 section 2.2)."""
    assertion, kind = form.get("client_assertion"), form.get("client_assertion_type")
    if (assertion is None) != (kind is None):
        raise invalid_request("client_assertion and client_assertion_type belong together")
    if kind not in (None, client_authentication.JWT_BEARER):
        raise invalid_request(f"client_assertion_type is {client_authentication.JWT_BEARER}")
    return None if assertion is None else Secret(assertion)


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
    if unknown := form.keys() - _PARAMETERS:
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


def _is_exchange(form: dict[str, str], *, exchanges: bool) -> bool:
    grant = form.get("grant_type")
    if grant is None:
        raise invalid_request("grant_type is missing")
    if grant not in (wire.CLIENT_CREDENTIALS, wire.TOKEN_EXCHANGE):
        grants = f"{wire.CLIENT_CREDENTIALS} or {wire.TOKEN_EXCHANGE}"
        raise Refusal(400, "unsupported_grant_type", f"the grant is {grants}")
    if grant == wire.TOKEN_EXCHANGE and not exchanges:
        raise Refusal(400, "unsupported_grant_type", "no upstream of this agent exchanges tokens that are shown")
    return grant == wire.TOKEN_EXCHANGE


def _seconds(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _LIFETIME_DIGITS:
        return int(text)
    raise invalid_request("min_lifetime is a number of seconds")
