"""How the sandbox's control plane authenticates its callers, and what it must know of the OAuth provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Posture:
    """
    The three settings of a flyteadmin that decide who may call it.

    `issuer` is `"internal"` where flyteadmin mints its own tokens and `"external"` where an identity provider
    does. `disable_for_grpc` lets calls without a good token in, anonymously. Without `use_auth` nobody is
    asked for a token, and the services that speak of authentication are not there.
    """

    issuer: Literal["internal", "external"] = "internal"
    disable_for_grpc: bool = False
    use_auth: bool = True


POSTURES: dict[str, Posture] = {
    "internal": Posture("internal"),
    "external": Posture("external"),
    "disable-for-grpc": Posture("external", disable_for_grpc=True),
    "no-auth": Posture(use_auth=False),
}
"""By the word that `--posture` takes."""


class Issuer(Protocol):
    """The OAuth provider whose tokens the control plane accepts."""

    @property
    def issuer(self) -> str:
        """Its base URL."""

    @property
    def token_endpoint(self) -> str: ...

    @property
    def authorization_endpoint(self) -> str: ...

    @property
    def jwks_uri(self) -> str: ...

    @property
    def audience(self) -> str:
        """What `aud` of an accepted token must hold: flyteadmin's public URL."""

    def keys(self) -> Any:
        """The public keys, a `joserfc.jwk.KeySet`. An `OSError` says that they cannot be had now."""

    def metadata(self) -> Mapping[str, Any]:
        """
        What it says about itself (RFC 8414 section 2). An `OSError` says that it cannot be asked now.
        """

    def client_of(self, jti: str) -> str | None:
        """The OAuth client that the token with this `jti` was minted for, if it is still known."""
