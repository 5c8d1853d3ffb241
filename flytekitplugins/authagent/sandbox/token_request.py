"""Reading what was sent to the endpoints (RFC 6749 sections 2.3, 3.1 and 3.2)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote_plus

from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import InvalidRequestError
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload

from flytekitplugins.authagent.sandbox.client import Client
from flytekitplugins.authagent.sandbox.exchange import Call

MAX_FIELDS = 64

SEVERAL = ("audience", "resource")
"""Parameters that may be there more than once (RFC 8693 section 2.1, RFC 8707 section 2)."""

FORM = "application/x-www-form-urlencoded"


class TokenRequest(OAuth2Request):  # type: ignore[misc] # authlib has no types
    """A request of an OAuth client, as authlib reads it."""

    def __init__(self, uri: str, form: dict[str, str], authorization: str = "") -> None:
        super().__init__("POST", uri, headers={"Authorization": authorization} if authorization else {})
        self.payload = BasicOAuth2Payload(form)

    @property
    def form(self) -> dict[str, str]:
        """The fields of the body; what the URL's query says is nobody's business."""
        return self.payload.data  # type: ignore[no-any-return] # authlib has no types

    @property
    def claimed_client(self) -> str | None:
        """Which client it says it comes from, before anything is proven."""
        basic = credentials(self.headers.get("Authorization", ""))
        return basic[0] if basic else self.form.get("client_id")


def read(call: Call, uri: str, *, needs: str | None = "grant_type") -> TokenRequest:
    """
    The request in `call`, which was sent to `uri`.

    Raises `InvalidRequestError` unless it is a form, each of its fields is there once, `needs` among them, and its
    client shows who it is in one way only. Fields without a value count as left out (section 3.2).
    """
    form = body(call)
    if needs and needs not in form:
        raise InvalidRequestError(f"There is no {needs}")
    authorization = call.headers.get("authorization", "")
    if sum((bool(authorization), "client_secret" in form, "client_assertion" in form)) > 1:
        raise InvalidRequestError("The client shows who it is in two ways")
    return TokenRequest(uri, form, authorization)


def body(call: Call) -> dict[str, str]:
    """The fields of the form in `call`. Raises `InvalidRequestError`."""
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise InvalidRequestError(f"The body must be {FORM}")
    try:
        return fields(call.body.decode("ascii"))
    except UnicodeDecodeError:
        raise InvalidRequestError("The body is not a form of UTF-8 text") from None


def fields(encoded: str) -> dict[str, str]:
    """
    Form-encoded fields by name. Several values of what may have several are joined by spaces, each once.

    Raises `InvalidRequestError` where another field is there twice, or the text cannot be read.
    """
    try:
        pairs = parse_qsl(encoded, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidRequestError("The body is not a form of UTF-8 text") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        form.setdefault(name, []).append(value)
    if any(len(values) > 1 for name, values in form.items() if name not in SEVERAL):
        raise InvalidRequestError("A parameter is there more than once")
    return {name: " ".join(dict.fromkeys(values)) for name, values in form.items()}


def credentials(authorization: str) -> tuple[str, str] | None:
    """
    The id and the secret in a Basic header (RFC 7617), both form-encoded (RFC 6749 section 2.3.1).

    `None` for any other header, and for one that cannot be read.
    """
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        id, colon, secret = base64.b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        return (unquote_plus(id, errors="strict"), unquote_plus(secret, errors="strict")) if colon else None
    except (binascii.Error, ValueError):
        return None


def client_secret_basic(query_client: Callable[[str], Client | None], request: TokenRequest) -> Client | None:
    """
    The client that a Basic header proves.

    It stands in for authlib's, which does not read `+` as a space and fails on bytes that are not UTF-8.
    """
    found = credentials(request.headers.get("Authorization", ""))
    client = query_client(found[0]) if found else None
    return client if client and found and client.check_client_secret(found[1]) else None
