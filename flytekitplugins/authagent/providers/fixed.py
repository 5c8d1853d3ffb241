"""What a token that was made elsewhere can and cannot be used for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from flytekitplugins.authagent.credential import Credential, claims
from flytekitplugins.authagent.errors import Denied
from flytekitplugins.authagent.providers import Wanted


def check(credential: Credential, wanted: Wanted, *, of: str, audience: str | None = None) -> None:
    """
    Refuse to use `credential` for something it does not say it is for.

    `of` names its source; `audience` is what the source itself says of it. A token for Flyte opens the whole
    cluster, so it is given to another audience only if it names that audience. Raises `Denied`.
    """
    found = claims(credential.token)
    if wanted.audience and wanted.audience not in {audience, *_many(found.get("aud"))}:
        raise Denied(
            f"{of} holds one token, and it does not say that it is for the audience {wanted.audience!r}",
            hint="use a provider that can ask for an audience, such as agent",
        )
    if wanted.subject and wanted.subject != found.get("sub"):
        raise Denied(
            f"{of} holds one token, and it does not say that it speaks for {wanted.subject!r}",
            hint="use a provider that can ask for a principal, such as agent",
        )
    if wanted.client and wanted.client not in (found.get("client_id"), found.get("azp")):
        raise Denied(f"{of} holds one token, and it does not say that it was issued to {wanted.client!r}")
    granted = set(credential.scopes) | set(_many(found.get("scp"))) | set(_many(found.get("scope")))
    missing = set(wanted.scopes) - granted
    if granted and missing:
        raise Denied(f"{of} holds a token without the scopes {', '.join(sorted(missing))}")


def _many(value: Any) -> Collection[str]:
    if isinstance(value, str):
        return value.split()
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
