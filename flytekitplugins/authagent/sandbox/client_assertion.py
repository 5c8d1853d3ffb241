"""Clients that show who they are by a JWT (RFC 7523 section 2.2)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from authlib.oauth2.rfc6749 import InvalidClientError
from authlib.oauth2.rfc7523.client import ASSERTION_TYPE
from joserfc.jwk import KeySet, OctKey

from flytekitplugins.authagent.sandbox import assertion
from flytekitplugins.authagent.sandbox.assertion import BadAssertion
from flytekitplugins.authagent.sandbox.client import Client
from flytekitplugins.authagent.sandbox.issuer import Issuer
from flytekitplugins.authagent.sandbox.token_request import TokenRequest
from flytekitplugins.authagent.sandbox.trusted_issuer import issuer_of

LONGEST = 3600.0
"""Seconds that an assertion which a client signs itself may be good for: its `jti` is remembered as long."""

MAX_SEEN = 10_000


class ClientAssertion:
    """
    The authentication methods `private_key_jwt` and `client_secret_jwt`, and what a trusted issuer says of a
    workload: a Kubernetes service account's projected token counts as the client that it is mapped to.

    A client's own assertion counts once. A projected token counts until it expires: the kubelet replaces it then.
    """

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], float] = {}

    def __call__(self, query_client: Callable[[str], Client | None], request: TokenRequest) -> Client | None:
        """
        The client that an assertion proves; `None` where there is none. Raises `InvalidClientError`.
        """
        text, kind = request.form.get("client_assertion"), request.form.get("client_assertion_type")
        if not self._issuer.dialect.assertions or (text is None and kind is None):
            return None
        if text is None or kind != ASSERTION_TYPE:
            raise InvalidClientError
        try:
            client = query_client(self._subject(text))
        except BadAssertion:
            raise InvalidClientError from None
        if client is None or request.form.get("client_id", client.id) != client.id:
            raise InvalidClientError
        return client

    def _subject(self, text: str) -> str:
        """The client that `text` speaks for."""
        here, now = self._issuer, self._issuer.now()
        other = issuer_of(text, here.trusted)
        if other:
            return other.read(text, audiences=(here.issuer,), now=now)[0]
        named = assertion.unverified(text)
        client = here.clients.get(str(named.get("iss")))
        if client is None or named.get("sub") != client.id:
            raise BadAssertion("no client is called that")
        claims = self._own(client, text, now)
        assertion.check_audience(claims, (here.issuer, here.token_endpoint))
        self._once(client.id, claims.get("jti"), claims["exp"], now)
        return client.id

    def _own(self, client: Client, text: str, now: float) -> dict[str, Any]:
        """What the client signed with its key pair if it has one, or else with its secret."""
        if client.keys is not None:
            return assertion.verified(text, client.keys, now=now)
        if client.secret is None:
            raise BadAssertion("a public client signs nothing")
        key = OctKey.import_key(client.secret.reveal())
        return assertion.verified(text, KeySet([key]), algorithms=("HS256",), now=now)

    def _once(self, client_id: str, jti: object, expires_at: float, now: float) -> None:
        if not isinstance(jti, str) or not 0 < len(jti) <= 256 or expires_at > now + LONGEST:
            raise BadAssertion("it has no usable jti, or lives too long")
        with self._lock:
            if len(self._seen) >= MAX_SEEN:
                self._seen = {one: until for one, until in self._seen.items() if until > now}
            if (client_id, jti) in self._seen or len(self._seen) >= MAX_SEEN:
                raise BadAssertion("it was used before")
            self._seen[client_id, jti] = expires_at
