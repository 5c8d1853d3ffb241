"""How a confidential client shows who it is at a token endpoint (RFC 6749 section 2.3)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from urllib.parse import quote_plus

from flytekitplugins.authagent.credential import Secret

Added = tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]
"""Form fields and headers to add to a request."""


def client_secret_basic(client_id: str, secret: Secret) -> Added:
    """RFC 6749 section 2.3.1: both halves are form-encoded before they are joined, or odd characters are refused."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
    return (), (("Authorization", "Basic " + base64.b64encode(pair.encode()).decode()),)


def client_secret_post(client_id: str, secret: Secret) -> Added:
    """RFC 6749 section 2.3.1, in the body, for servers that take nothing else."""
    return (("client_id", client_id), ("client_secret", secret.reveal())), ()


METHODS: dict[str, Callable[[str, Secret], Added]] = {
    "client_secret_basic": client_secret_basic,
    "client_secret_post": client_secret_post,
}
"""By the names of RFC 8414 and the IANA registry."""
