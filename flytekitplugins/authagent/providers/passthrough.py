"""Whatever headers the code sets with `auth_metadata(...)`: no token of ours."""

from __future__ import annotations

from dataclasses import dataclass, field

from flytekitplugins.authagent import passthrough
from flytekitplugins.authagent.credential import Credential, from_token, token
from flytekitplugins.authagent.errors import ProviderError
from flytekitplugins.authagent.providers import Wanted, fixed


@dataclass(frozen=True)
class PassthroughProvider:
    """
    Takes the headers of the calling thread or coroutine, anew for every call; nothing is kept or shared.

    As a credential it is the bearer token among them: what `tokens[...]` and `authagent token` can use.
    """

    kind: str = field(default="passthrough", init=False)
    absent: str = field(default="no headers are set with auth_metadata(...)", init=False)
    remedy: str = field(default="call Flyte inside `with auth_metadata(...)`", init=False)

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> Credential:
        """
        The bearer token among the headers.

        Raises `NoCredential` where no headers are set, `ProviderError` where none of them holds a bearer token,
        `Denied` as `fixed.check`.
        """
        for name, value in passthrough.current():
            scheme, _, text = value.reveal().partition(" ")
            if scheme.lower() == "bearer":
                shown = token(text.strip(), of=f"the header {name}")
                credential = from_token(shown, provider=self.kind, header=name)
                fixed.check(credential, wanted, of="auth_metadata(...)")
                return credential
        raise ProviderError("none of the headers of auth_metadata(...) holds a bearer token")
