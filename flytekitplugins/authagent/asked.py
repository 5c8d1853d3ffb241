"""What code asks for: a credential, for a Flyte, on behalf of a context."""

from __future__ import annotations

from dataclasses import dataclass

from flytekitplugins.authagent.context import Context


@dataclass(frozen=True)
class Asked:
    """
    What code asks for. Whatever is left out is the binding's, the provider's or the server's to say.

    `endpoint` is the Flyte that the code names, `configured` the one of the Flyte configuration (environment or
    file), which a binding may overrule. `insecure`: whether that one speaks plaintext, where the code says so.
    `interactive`: whether somebody at the terminal may be asked to log in.
    """

    context: Context = Context()
    provider: str | None = None
    endpoint: str | None = None
    configured: str | None = None
    insecure: bool | None = None
    audience: str | None = None
    scopes: tuple[str, ...] = ()
    interactive: bool = True
