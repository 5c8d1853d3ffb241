"""Whom a Flyte takes its caller for, and whether the token has any part in that."""

from __future__ import annotations

from dataclasses import dataclass

from flytekitplugins.authagent import discovery
from flytekitplugins.authagent.credential import Secret
from flytekitplugins.authagent.discovery import FlyteServer
from flytekitplugins.authagent.errors import Rejected
from flytekitplugins.authagent.oauth.userinfo import Person

NOBODY = "takes the caller for nobody: its answer is the same without the token"
NOBODY_HINT = (
    "compare the token's issuer and audience with those that Flyte trusts; under auth.disableForGrpc Flyte lets every"
    " caller in, and a token that it does not trust changes nothing"
)


@dataclass(frozen=True)
class Acceptance:
    """
    Whom Flyte takes the caller for, `None` where it has no authentication; an empty person is nobody.

    `anonymous`: whom it takes a caller without a token for, `None` where it refuses one.
    """

    person: Person | None
    anonymous: Person | None = None

    @property
    def token_changes_nothing(self) -> bool:
        """Whether the caller would be the same without the token."""
        return self.person is not None and self.person == self.anonymous


def ask(server: FlyteServer, header: str, token: Secret) -> Acceptance:
    """Ask with the token, and without it. Raises as `FlyteServer.call`: `Rejected` where Flyte refuses the token."""
    person = discovery.user_info(server, header, token)
    if person is None:
        return Acceptance(None)
    try:
        return Acceptance(person, discovery.user_info(server, header, None))
    except Rejected:
        return Acceptance(person)
