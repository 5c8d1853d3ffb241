"""How clients show who they are at the token endpoint (RFC 6749 section 2.3)."""

from __future__ import annotations

CONFIDENTIAL = ("client_assertion", "client_secret_basic", "client_secret_post")
"""With a JWT or a secret. A JWT comes first: what it says is never left aside."""

ANY = (*CONFIDENTIAL, "none")
"""Public clients too."""
