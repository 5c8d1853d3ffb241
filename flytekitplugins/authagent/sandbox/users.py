"""The people whom the sandbox knows."""

from __future__ import annotations

USERS = ("alice", "bob", "mallory")


def profile(user: str) -> dict[str, str]:
    """What OpenID Connect Core section 5.1 calls their claims."""
    return {"sub": user, "name": user.capitalize(), "email": f"{user}@sandbox.example"}
