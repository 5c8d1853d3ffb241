"""Reading what was sent to the token endpoint (RFC 6749 sections 2.3 and 3.2)."""

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


class TokenRequest(OAuth2Request):  # type: ignore[misc] # authlib has no types
    """A token request, as authlib reads it."""

    def __init__(self, uri: str, form: dict[str, str], authorization: str) -> None:
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


def read(call: Call, uri: str) -> TokenRequest:
    """
    The request in `call`, which was sent to `uri`.

    Raises `InvalidRequestError` unless it is a form, each of its fields is there once, and its client shows who
    it is in one way only. Fields without a value count as left out (section 3.2).
    """
    if call.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidRequestError("The body must be application/x-www-form-urlencoded")
    try:
        fields = parse_qsl(call.body.decode("ascii"), max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidRequestError("The body is not a form of UTF-8 text") from None
    form = dict(fields)
    if len(form) < len(fields):
        raise InvalidRequestError("A parameter is there more than once")
    if "grant_type" not in form:
        raise InvalidRequestError("There is no grant_type")
    authorization = call.headers.get("authorization", "")
    if authorization and "client_secret" in form:
        raise InvalidRequestError("The client shows who it is in two ways")
    return TokenRequest(uri, form, authorization)


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
