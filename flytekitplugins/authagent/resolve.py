"""From what a task asks to a source of credentials: context, binding, provider, source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from flytekitplugins.authagent import binding as bindings
from flytekitplugins.authagent import kind, providers
from flytekitplugins.authagent.config import AgentSpec, Binding, EnvSpec, ProviderSpec, Settings
from flytekitplugins.authagent.context import Context
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.endpoint import Endpoint, parse
from flytekitplugins.authagent.errors import ConfigError, Denied, NoCredential
from flytekitplugins.authagent.providers import Provider, Wanted
from flytekitplugins.authagent.source import WAIT, Source
from flytekitplugins.authagent.sources import process_wide

DEFAULT_ORDER = ("agent", "file", "env")
"""Tried where no bindings are configured (contract section 3). The kinds of later releases join at their places."""


@dataclass(frozen=True)
class Asked:
    """
    What code asks for. Whatever is left out is the binding's, the provider's or the server's to say.

    `endpoint` is the Flyte that the code names, `configured` the one of the Flyte configuration (environment or
    file), which a binding may overrule.
    """

    context: Context = Context()
    provider: str | None = None
    endpoint: str | None = None
    configured: str | None = None
    audience: str | None = None
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resolution:
    """
    The source that serves what was asked, and where its credentials go.

    `endpoint` is `None` where nobody knows a Flyte: then the credential can be shown but not sent. `header` is
    what the user or the operator set; otherwise each credential may know it.
    """

    source: Source
    provider: str
    endpoint: Endpoint | None = None
    insecure: bool | None = None
    header: str | None = None

    def check(self, credential: Credential) -> Credential:
        """
        `credential`, if it may go to `endpoint`: a token is sent only to the Flyte that its source names.

        Raises `ConfigError`.
        """
        if credential.endpoint and self.endpoint and not self.endpoint.same_as(parse(credential.endpoint)):
            raise ConfigError(
                f"the credential from {self.provider} is for {parse(credential.endpoint).target},"
                f" not for {self.endpoint.target}",
                hint="let both name the same Flyte, or use the provider that belongs to this one",
            )
        return credential


@dataclass(frozen=True)
class _Candidate:
    provider: Provider
    key: object
    binding: Binding | None = None


def resolve(asked: Asked, settings: Settings, environ: Mapping[str, str], *, timeout: float = WAIT) -> Resolution:
    """
    Find the provider that serves `asked` and obtain the first credential from it, within `timeout` seconds.

    "Not configured" moves on to the next provider, "configured and broken" stops. Raises `NoCredential` listing
    every attempt with its reason and remedy where nothing is configured, and whatever the chosen provider raises.
    """
    tried: dict[str, str] = {}
    remedies: list[str] = []
    for candidate in _candidates(asked, settings, environ, tried):
        _check_honoured(asked, candidate)
        source = process_wide.get(_key(asked, candidate), partial(_source, asked, candidate))
        try:
            return _resolution(asked, settings, candidate, source, source.get(timeout=timeout))
        except NoCredential:
            tried[candidate.provider.kind] = candidate.provider.absent
            remedies.append(candidate.provider.remedy)
    where = settings.source or "no authagent.yaml"
    listed = "; ".join(f"{name}: {reason}" for name, reason in tried.items())
    raise NoCredential(
        f"no credential for {_described(asked.context)}. Tried ({where}): {listed or 'nothing'}",
        hint="; or ".join(dict.fromkeys(remedies)) or "write a binding that matches",
    )


def _resolution(
    asked: Asked, settings: Settings, candidate: _Candidate, source: Source, credential: Credential
) -> Resolution:
    """Contract section 3, "which Flyte": the argument, the binding, the configuration, what the source says."""
    binding = candidate.binding
    named = asked.endpoint or (binding.endpoint if binding else None) or asked.configured or credential.endpoint
    endpoint = parse(named) if named else None
    resolution = Resolution(
        source,
        candidate.provider.kind,
        endpoint=endpoint,
        insecure=_insecure(endpoint, binding, named == credential.endpoint),
        header=(binding.authorization_header if binding else None) or settings.authorization_header,
    )
    resolution.check(credential)
    return resolution


def _insecure(endpoint: Endpoint | None, binding: Binding | None, named_by_source: bool) -> bool | None:
    """Whether to speak plaintext, as far as whoever named the endpoint said it."""
    if endpoint and endpoint.insecure is not None:
        return endpoint.insecure
    if binding and binding.insecure is not None:
        return binding.insecure
    return False if named_by_source else None


def _candidates(
    asked: Asked, settings: Settings, environ: Mapping[str, str], tried: dict[str, str]
) -> Iterator[_Candidate]:
    """The providers to ask, in order. What the bindings say about those that are not is put into `tried`."""
    pinned = kind.check(asked.provider, "provider") if asked.provider else settings.pinned
    for n, binding in enumerate(settings.bindings or ()):
        reasons = bindings.mismatches(binding, asked.context)
        if pinned and binding.provider.kind != pinned:
            continue
        if not reasons:
            yield _Candidate(
                providers.build(binding.provider, environ, in_pod=settings.in_pod), binding.provider, binding
            )
            return
        tried[f"binding {n + 1}"] = ", ".join(reasons)
    if pinned:
        yield _default(pinned, settings, environ)
    elif settings.bindings is None:
        for name in DEFAULT_ORDER:
            yield _default(name, settings, environ)


def _default(name: str, settings: Settings, environ: Mapping[str, str]) -> _Candidate:
    """The provider called `name` as the environment alone configures it."""
    spec: ProviderSpec
    match name:
        case "agent":
            spec = AgentSpec(socket=settings.socket)
        case "env":
            spec = EnvSpec()
        case "file":
            from flytekitplugins.authagent.providers.file import FileProvider

            return _Candidate(FileProvider(settings.token_file, in_pod=settings.in_pod), (name, settings.token_file))
        case _:
            return _Candidate(_Unconfigured(name), name)
    return _Candidate(providers.build(spec, environ, in_pod=settings.in_pod), spec)


@dataclass(frozen=True)
class _Unconfigured:
    """A provider that only a binding can configure, where none does."""

    kind: str

    @property
    def absent(self) -> str:
        return "no binding configures it"

    @property
    def remedy(self) -> str:
        return f"write a binding with kind: {self.kind}"

    def fetch(self, wanted: Wanted, *, min_lifetime: float | None = None) -> None:
        """There is nothing to ask."""


def _check_honoured(asked: Asked, candidate: _Candidate) -> None:
    """
    Refuse what nobody would look at: `oauth2_client` asks for a client, which the agent's wire cannot say.

    Where the binding matched on it, the operator has answered.
    """
    client = asked.context.run_as.oauth2_client
    matched = candidate.binding is not None and candidate.binding.when.oauth2_client is not None
    if client and candidate.provider.kind == "agent" and not matched:
        raise Denied(
            f"nothing here can give a token of the client {client!r}, which run_as.oauth2_client asks for",
            hint="write a binding with when: {oauth2_client: ...}, or leave it out",
        )


def _wanted(asked: Asked, binding: Binding | None) -> Wanted:
    run_as = asked.context.run_as
    matched = binding.when if binding else None
    return Wanted(
        audience=asked.audience or (binding.audience if binding else None),
        scopes=asked.scopes or (binding.scopes if binding else ()),
        subject=None if matched and matched.execution_identity else run_as.execution_identity,
        client=None if matched and matched.oauth2_client else run_as.oauth2_client,
        context=asked.context,
    )


def _key(asked: Asked, candidate: _Candidate) -> object:
    """Contract section 4 of the design: endpoint, principal, client, audience, scopes; and who is asked for them."""
    wanted = _wanted(asked, candidate.binding)
    # The agent may narrow by task and execution, so its answer is for one of them only.
    asker = (wanted.context.execution_id, wanted.context.task) if candidate.provider.kind == "agent" else None
    return (
        candidate.key,
        asked.endpoint or asked.configured,
        wanted.subject,
        wanted.client,
        wanted.audience,
        tuple(sorted(wanted.scopes)),
        asker,
    )


def _source(asked: Asked, candidate: _Candidate) -> Source:
    wanted, provider = _wanted(asked, candidate.binding), candidate.provider

    def fetch(min_lifetime: float | None) -> Credential:
        credential = provider.fetch(wanted, min_lifetime=min_lifetime)
        if credential is None:
            raise NoCredential(f"{provider.kind}: {provider.absent}", hint=provider.remedy)
        return credential

    return Source(fetch)


def _described(context: Context) -> str:
    known = [f"{name} {value}" for name, value in context.facts().items() if value]
    return ", ".join(known) or "this process"
