"""Why Flyte does not take a credential, and what to do about it."""

from __future__ import annotations

import re

TOO_NEW = "used before issued"
"""flyteadmin has no leeway: a token of this very second may be from its future."""

NO_SCOPE = "doesn't have required scope"

UNKNOWN = "it gives no reason that is known here"

_AUDIENCE = "invalid audience"

_REASONS: tuple[tuple[str, str], ...] = (
    (r"doesn't have required scope", f"the caller {NO_SCOPE}"),
    (r"used before issued|issued in the future", f"token {TOO_NEW}"),
    (r"invalid audience|audience", _AUDIENCE),
    (r"expired", "the token is expired"),
    (r"not valid yet|not active yet", "the token is not valid yet"),
    (r"issuer", "the token is of an issuer that Flyte does not trust"),
    (r"signature|failed to verify|verification error|no matching key|key id|\bkid\b", "the token's signature is wrong"),
    (r"malformed|parse|decode|segments|not a jwt|compact jws", "Flyte cannot read the token"),
    (r"revoked", "the token is revoked"),
    (r"status: 302\b", "something before Flyte answered with a redirect (302)"),
    (r"status: 401\b", "something before Flyte answered 401"),
    (r"token was not found|no token|missing|anonymous", "Flyte found no token in the call"),
)
"""What servers say, as patterns, and what is shown instead: their own words may repeat the token."""


def reason(details: str) -> str:
    """Why, in our words (docs/decisions/0022-quoting-peers.md)."""
    return next((ours for theirs, ours in _REASONS if re.search(theirs, details, re.IGNORECASE)), UNKNOWN)


def hint(words: str) -> str:
    """What to do about a rejection for that reason."""
    if NO_SCOPE in words:
        return "flyteadmin wants the scope `all` in the claim scp; ask for it, and let the identity provider map it"
    if _AUDIENCE in words:
        return "let the token's audience be one that flyteadmin allows (auth.appAuth, or its public URL)"
    if "expired" in words or TOO_NEW in words:
        return "compare the clocks of the identity provider, of Flyte and of this machine"
    return "check that the identity provider of the credential is the one that this Flyte trusts"
