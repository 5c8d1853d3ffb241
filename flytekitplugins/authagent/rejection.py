"""What Flyte says when it does not take a credential, and what to do about it."""

from __future__ import annotations

import re

TOO_NEW = "used before issued"
"""flyteadmin has no leeway: a token of this very second may be from its future."""

NO_SCOPE = "doesn't have required scope"

_CLAIMS = re.compile(r"invalid audience \[[^\]]*\]")
_JWT = re.compile(r"[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*")


def reason(details: str) -> str:
    """The server's own words, without what they quote of the token."""
    return _JWT.sub("[...]", _CLAIMS.sub("invalid audience [...]", details))[:400]


def hint(words: str) -> str:
    """What to do about a rejection for that reason."""
    if NO_SCOPE in words:
        return "flyteadmin wants the scope `all` in the claim scp; ask for it, and let the identity provider map it"
    if "audience" in words:
        return "let the token's audience be one that flyteadmin allows (auth.appAuth, or its public URL)"
    if "expired" in words.lower() or TOO_NEW in words:
        return "compare the clocks of the identity provider, of Flyte and of this machine"
    return "check that the identity provider of the credential is the one that this Flyte trusts"
