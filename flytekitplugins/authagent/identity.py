"""
`current_context().identity`: who launched this execution, and whom it is said to run as.

Each fact comes with its source, for none of them is authorisation. Any caller of Flyte can name whatever
`execution_identity` it likes, and an execution launched with somebody's `parent_node_execution` shows that person
as its principal. What a fact is good for is attribution: a log line, a notification, the owner of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from html import escape
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import grpc
from flyteidl.admin.execution_pb2 import WorkflowExecutionGetRequest
from flyteidl.core.identifier_pb2 import WorkflowExecutionIdentifier
from flyteidl.service.admin_pb2_grpc import AdminServiceStub

from flytekitplugins.authagent import user_info
from flytekitplugins.authagent.context import Context, RunAs
from flytekitplugins.authagent.credential import Credential, claims
from flytekitplugins.authagent.errors import NoCredential, ProviderError
from flytekitplugins.authagent.flyte import Platform

if TYPE_CHECKING:
    from flytekit import Deck
    from flytekit.remote import FlyteRemote

__all__ = ["Fact", "Identity", "Source", "current"]

Source = Literal["attested", "control_plane", "hint"]
"""
Where a fact is from. `attested`: Kubernetes says which execution this is, and that person has let it act for them, both
through the agent. `control_plane`: Flyte says so. `hint`: the code or its own token says so of itself.
"""

Value = TypeVar("Value", bound=str | RunAs)

_MISSING = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
_LONGEST = 200  # characters of a value in a deck


@dataclass(frozen=True)
class Fact(Generic[Value]):
    """A value and where it is from; both are `None` where it is not known, and then it is false, and empty as text."""

    value: Value | None = None
    source: Source | None = None

    def __bool__(self) -> bool:
        return self.value is not None

    def __str__(self) -> str:
        if isinstance(self.value, RunAs):
            return ", ".join(f"{name}={value}" for name, value in _set(self.value))
        return "" if self.value is None else str(self.value)


@dataclass(frozen=True)
class Identity:
    """
    Who launched this execution; outside of one, who is running this code. Plain data: it can be kept and pickled.

    `subject` is the launcher's id at the identity provider, Flyte's "principal". `name` is the same person's, for
    people to read. `run_as` is what the execution is to run as, or, as a hint, what the task declares.
    """

    subject: Fact[str] = field(default_factory=Fact)
    name: Fact[str] = field(default_factory=Fact)
    run_as: Fact[RunAs] = field(default_factory=Fact)

    def deck(self) -> Deck:
        """Show all this as the deck "Identity" of the task that runs here; Flyte keeps it where decks are enabled."""
        from flytekit import Deck

        return Deck("Identity", _html(self))


def current() -> Identity:
    """
    The identity of the task that this code belongs to, for threads that flytekit's context does not reach.

    Raises as `current_context().identity`.
    """
    from flytekit.core.context_manager import FlyteContextManager

    from flytekitplugins.authagent.bound_parameters import BoundParameters
    from flytekitplugins.authagent.handle import sole_active
    from flytekitplugins.authagent.remote import of_process

    parameters = FlyteContextManager.current_context().user_space_params
    if isinstance(parameters, BoundParameters):
        return parameters.identity
    return (sole_active() or of_process()).identity()


def find(context: Context, remote: Callable[[], FlyteRemote], credential: Callable[[], Credential | None]) -> Identity:
    """
    Ask Flyte, by one GetExecution and one UserInfo at most, and an agent that attests executions, each with a deadline.

    What nobody knows is left empty. Raises what `remote` raises, and where Flyte rejects the credential or cannot
    be asked.
    """
    hint: Fact[RunAs] = _fact(None if context.run_as == RunAs() else context.run_as, "hint")
    if context.execution:
        return _of_execution(context, remote(), hint)
    try:
        flyte = remote()
    except NoCredential:
        return Identity(run_as=hint)
    subject, name = _of_caller(flyte, credential)
    return Identity(subject, name, hint)


def _of_execution(context: Context, flyte: FlyteRemote, hint: Fact[RunAs]) -> Identity:
    attested = _fact(_attested(context, flyte), "attested")
    spec = _spec(context, flyte)
    if spec is None:
        return Identity(attested, run_as=hint)
    subject = attested or _fact(spec.metadata.principal, "control_plane")
    run_as = _run_as(spec.security_context.run_as)
    return Identity(
        subject,
        _fact(_name_of(subject.value, flyte), "control_plane"),
        hint if run_as == RunAs() else Fact(run_as, "control_plane"),
    )


def _attested(context: Context, flyte: FlyteRemote) -> str | None:
    """Who let this execution act for them, where its agent attests that it is this one; `None` where nobody did."""
    platform = flyte.config.platform
    resolution = platform.resolution if isinstance(platform, Platform) else None
    if resolution is None or resolution.agent is None or context.execution_id is None:
        return None
    return resolution.agent.launcher(context.execution_id, within=user_info.TIMEOUT)


def _spec(context: Context, flyte: FlyteRemote) -> Any:
    """The `ExecutionSpec` that Flyte has of this execution; `None` where it has none for us."""
    if context.execution_id is None:
        return None
    id = WorkflowExecutionIdentifier(project=context.project, domain=context.domain, name=context.execution)
    client = flyte.client
    stub = AdminServiceStub(user_info.unrepeated(client))
    try:
        return stub.GetExecution(WorkflowExecutionGetRequest(id=id), timeout=user_info.TIMEOUT).spec
    except grpc.RpcError as error:
        failed = error
    if failed.code() in _MISSING:
        return None
    raise user_info.failure(failed, client.url, "who launched this execution")


def _name_of(subject: str | None, flyte: FlyteRemote) -> str | None:
    """Flyte knows the names of its callers alone, so there is one only where the launcher's own token is used."""
    if subject is None:
        return None
    try:
        found = user_info.ask(flyte.client)
    except ProviderError:  # a name is a nicety
        return None
    return found.name if found and found.subject == subject else None


def _of_caller(flyte: FlyteRemote, credential: Callable[[], Credential | None]) -> tuple[Fact[str], Fact[str]]:
    """Whom Flyte takes us for; where it cannot say, whom our own token says that we are."""
    try:
        found = user_info.ask(flyte.client)
    except ProviderError:
        found = None
    subject, name = _claimed(credential())
    if found is None or found.subject is None:
        return subject, name
    if found.name is None and subject.value == found.subject:
        return Fact(found.subject, "control_plane"), name
    return Fact(found.subject, "control_plane"), _fact(found.name, "control_plane")


def _claimed(credential: Credential | None) -> tuple[Fact[str], Fact[str]]:
    """
    The claims `sub` and `name` (OpenID Connect Core 1.0 section 5.1) of the id_token, else of the access token.

    Nobody has verified them.
    """
    for secret in (credential.id_token, credential.token) if credential else ():
        found = claims(secret) if secret else {}
        if subject := _text(found.get("sub")):
            return Fact(subject, "hint"), _fact(_text(found.get("name")), "hint")
    return Fact(), Fact()


def _run_as(message: Any) -> RunAs:
    """A `flyteidl.core.Identity` reduced to names; of a client its id alone."""
    return RunAs(
        execution_identity=message.execution_identity or None,
        oauth2_client=message.oauth2_client.client_id or None,
        k8s_service_account=message.k8s_service_account or None,
        iam_role=message.iam_role or None,
    )


def _fact(value: Value | None, source: Source) -> Fact[Value]:
    return Fact(value, source) if value else Fact()


def _text(claim: object) -> str | None:
    return claim if isinstance(claim, str) and claim else None


def _set(run_as: RunAs) -> list[tuple[str, str]]:
    return [(f.name, value) for f in fields(run_as) if (value := getattr(run_as, f.name))]


_STYLES = {
    "attested": ("#e6f4ea", "#137333", "attested", "the platform vouches for it"),
    "control_plane": ("#e8eefc", "#1a56c4", "control plane", "Flyte says so"),
    "hint": ("#fef3e0", "#9a5b00", "hint", "said by the code or its token, checked by nobody"),
}
_FONT = "font-family:'Open Sans',helvetica,arial,sans-serif;color:#333"
_CELL = "padding:10px 24px 10px 0;vertical-align:top;text-align:left;border-bottom:1px solid #e5e5e5"
_LABELS = {
    "execution_identity": "identity",
    "oauth2_client": "OAuth client",
    "k8s_service_account": "service account",
    "iam_role": "IAM role",
}


def _html(identity: Identity) -> str:
    """A small table. Every value is somebody else's text, so each is escaped, and cut where it is long."""
    run_as = identity.run_as.value
    rows = [
        _row("Launched by", identity.subject, _shown(identity.subject.value)),
        _row("Name", identity.name, _shown(identity.name.value)),
        _row(
            "Runs as",
            identity.run_as,
            "<br>".join(f"{_label(_LABELS[n])} {_shown(value)}" for n, value in _set(run_as)) if run_as else "",
        ),
    ]
    return (
        f'<table style="{_FONT};font-size:14px;line-height:20px;border-collapse:collapse;max-width:60rem">'
        f"{''.join(rows)}</table>"
        f'<p style="{_FONT};font-size:12px;line-height:18px;color:#666;max-width:44rem;margin-top:16px">'
        "Attribution, not authorisation: whoever may launch executions can make one that shows another person.</p>"
    )


def _row(label: str, fact: Fact[Any], value: str) -> str:
    return (
        f'<tr><th scope="row" style="{_CELL};font-weight:400;color:#666;white-space:nowrap">{label}</th>'
        f'<td style="{_CELL};overflow-wrap:anywhere">{value or _label("not known")}</td>'
        f'<td style="{_CELL};padding-right:0;white-space:nowrap">{_badge(fact.source)}</td></tr>'
    )


def _badge(source: Source | None) -> str:
    if source is None:
        return ""
    back, front, word, meaning = _STYLES[source]
    style = f"background:{back};color:{front};border-radius:10px;padding:2px 10px;font-size:12px;font-weight:600"
    return f'<span title="{meaning}" style="{style}">{word}</span>'


def _shown(value: str | None) -> str:
    if value is None:
        return ""
    cut = value if len(value) <= _LONGEST else value[:_LONGEST] + "\N{HORIZONTAL ELLIPSIS}"
    visible = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in cut)
    return f'<bdi style="font-weight:600">{escape(visible)}</bdi>'


def _label(text: str) -> str:
    return f'<span style="color:#6b6b6b">{text}</span>'
