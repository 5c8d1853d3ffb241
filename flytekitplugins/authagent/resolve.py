"""From what a task asks to a source of credentials: context, binding, provider, source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from flytekitplugins.authagent import binding as bindings
from flytekitplugins.authagent import default_order, flyte_config, kind, place, providers
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.config import Binding, Settings
from flytekitplugins.authagent.context import Context
from flytekitplugins.authagent.credential import Credential
from flytekitplugins.authagent.default_order import SwitchedOff, Unconfigured, WithoutAuthentication
from flytekitplugins.authagent.endpoint import Endpoint, parse
from flytekitplugins.authagent.errors import Attempt, ConfigError, Denied, NoCredential
from flytekitplugins.authagent.providers import Provider, Wanted
from flytekitplugins.authagent.reach import flyte_server, reach
from flytekitplugins.authagent.source import WAIT, Source
from flytekitplugins.authagent.sources import Direct, process_wide
from flytekitplugins.authagent.specs import (
    AgentSpec,
    ApiKeySpec,
    CommandSpec,
    FileSpec,
    LoginSpec,
    ProviderSpec,
    ServerSpec,
)

if TYPE_CHECKING:
    from flytekitplugins.authagent.providers.agent import AgentProvider


SEE_DOCTOR = "; `authagent doctor` shows everything that was tried"

MAX_SHOWN = 30
"""Characters of a name that an error shows."""


@dataclass(frozen=True)
class Resolution:
    """
    The source that serves what was asked, and where its credentials go.

    `endpoint` is `None` where nobody knows a Flyte: then the credential can be shown but not sent. `header` is
    what the user or the operator set; otherwise each credential may know it. `agent` is the one that serves an
    execution: it may know whom that is for, and cover what it launches.
    """

    source: Source | Direct
    provider: str
    endpoint: Endpoint | None = None
    insecure: bool | None = None
    header: str | None = None
    agent: AgentProvider | None = None

    @property
    def sends_nothing(self) -> bool:
        """Whether there is no credential, now or later: Flyte has no authentication, or it is switched off."""
        return self.provider == "none"

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

    @property
    def patience(self) -> float:
        """Seconds for which its answer may be waited for: a person takes longer than a server."""
        if isinstance(self.key, CommandSpec):
            from flytekitplugins.authagent.providers.command import CommandProvider

            if isinstance(self.provider, CommandProvider) and self.provider.at_terminal:
                return WAIT + self.provider.timeout
        return WAIT + (self.key.patience if isinstance(self.key, LoginSpec) else 0)


def resolve(
    asked: Asked,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    min_lifetime: float = 0.0,
    timeout: float = WAIT,
) -> Resolution:
    """
    Find the provider that serves `asked` and obtain the first credential from it, within `timeout` seconds: one that is
    good for `min_lifetime` seconds, if that is asked.

    "Not configured" moves on to the next provider, "configured and broken" stops. Where nothing is configured, raises
    `NoCredential` with the remedy for this place, and with every attempt in `attempts`; else whatever the chosen
    provider raises.
    """
    flyte_config.check_variables(environ)
    tried: list[Attempt] = []
    for candidate in _candidates(asked, settings, environ, tried):
        _check_honoured(asked, candidate)
        if candidate.provider.kind == "passthrough":  # each thread has its own, and may have none yet
            return _resolution(asked, settings, environ, candidate, Direct(_fetch(asked, candidate)))
        source = process_wide.get(_key(asked, candidate), partial(_source, asked, candidate))
        patience = timeout if candidate.patience == WAIT else max(timeout, candidate.patience)
        try:
            credential = source.get(min_lifetime=min_lifetime, timeout=patience)
            return _resolution(asked, settings, environ, candidate, source, credential)
        except NoCredential:
            provider = candidate.provider
            tried.append(Attempt(provider.kind, provider.absent, provider.remedy))
    raise _no_credential(asked, settings, environ, tuple(tried))


def _no_credential(
    asked: Asked, settings: Settings, environ: Mapping[str, str], attempts: tuple[Attempt, ...]
) -> NoCredential:
    """One sentence and one remedy; `attempts` and `authagent doctor` have the rest."""
    whom = _described(asked.context)
    asked_providers = [attempt for attempt in attempts if not attempt.provider.startswith("binding ")]
    if len(asked_providers) == 1:
        [only] = asked_providers
        return NoCredential(f"no credential for {whom}: {only.reason}", hint=only.remedy, attempts=attempts)
    if settings.bindings is not None:
        return NoCredential(
            f"no credential for {whom}: none of the {len(settings.bindings)} bindings in {settings.source} matches",
            hint="add a binding that matches" + SEE_DOCTOR,
            attempts=attempts,
        )
    config = flyte_config.load(environ)
    flyte = asked.endpoint or asked.configured or config.admin.endpoint
    no_keyring = any(attempt.provider == "keyring" and "--store file" in attempt.remedy for attempt in attempts)
    remedy = place.remedy(
        environ,
        socket=settings.socket,
        flyte=flyte,
        is_configured=config.is_for(flyte),
        store=" --store file" if no_keyring else "",
    )
    login = next((f"{a.reason}, and no other provider" for a in attempts if a.provider == "keyring"), "no provider")
    # Nobody can run `authagent doctor` in a pod that has ended: there Flyte's error document is all that is left.
    return NoCredential(
        f"no credential for {whom}: {login} is configured",
        hint=remedy + SEE_DOCTOR,
        attempts=attempts,
        lists_attempts=settings.in_pod,
    )


def _resolution(  # noqa: PLR0917 - all that is known at the end of the walk
    asked: Asked,
    settings: Settings,
    environ: Mapping[str, str],
    candidate: _Candidate,
    source: Source | Direct,
    credential: Credential | None = None,
) -> Resolution:
    """Contract section 3, "which Flyte": the argument, the binding, the configuration, what the source says."""
    binding = candidate.binding
    by_source = credential.endpoint if credential else None
    named_here = asked.endpoint or (binding.endpoint if binding else None) or asked.configured
    named = named_here or by_source
    endpoint = parse(named) if named else None
    resolution = Resolution(
        source,
        candidate.provider.kind,
        endpoint=endpoint,
        insecure=_insecure(endpoint, binding, named_here is None),
        header=binding.authorization_header if binding and binding.authorization_header else _header(named, environ),
        agent=_agent(asked, candidate),
    )
    if credential:
        resolution.check(credential)
    return resolution


def _agent(asked: Asked, candidate: _Candidate) -> AgentProvider | None:
    if candidate.provider.kind != "agent" or asked.context.execution_id is None:
        return None
    from flytekitplugins.authagent.providers.agent import AgentProvider

    return candidate.provider if isinstance(candidate.provider, AgentProvider) else None


def _header(named: str | None, environ: Mapping[str, str]) -> str | None:
    """
    The header that the environment wants for every Flyte, or the configuration file for the one that it names.

    A broken file is for those to report who need it.
    """
    try:
        config = flyte_config.load(environ)
    except ConfigError:
        return None
    header, said = config.admin.authorizationHeader, config.said.get("authorizationHeader", "")
    return header.lower() if header and (said.startswith("FLYTE_") or config.is_for(named)) else None


def _insecure(endpoint: Endpoint | None, binding: Binding | None, named_by_source: bool) -> bool | None:
    """Whether to speak plaintext, as far as whoever named the endpoint said it."""
    if endpoint and endpoint.insecure is not None:
        return endpoint.insecure
    if binding and binding.insecure is not None:
        return binding.insecure
    return False if named_by_source else None


def _candidates(
    asked: Asked, settings: Settings, environ: Mapping[str, str], tried: list[Attempt]
) -> Iterator[_Candidate]:
    """The providers to ask, in order. What the bindings say about those that are not is put into `tried`."""
    pinned = kind.check(asked.provider, "provider") if asked.provider else settings.pinned
    for n, binding in enumerate(settings.bindings or ()):
        reasons = bindings.mismatches(binding, asked.context)
        if pinned and binding.provider.kind != pinned:
            continue
        if not reasons:
            yield _candidate(binding.provider, asked, binding, settings, environ)
            return
        tried.append(Attempt(f"binding {n + 1}", ", ".join(reasons), f"correct its `when:` in {settings.source}"))
    if pinned:
        yield _default(pinned, asked, settings, environ)
    elif settings.bindings is None and default_order.is_switched_off(environ):
        yield _Candidate(SwitchedOff(), "FLYTE_PLATFORM_AUTH")
    elif settings.bindings is None:
        for name in default_order.names(settings):
            yield _default(name, asked, settings, environ)


def _default(name: str, asked: Asked, settings: Settings, environ: Mapping[str, str]) -> _Candidate:
    """The provider called `name` as the environment alone configures it."""
    if name == "none":
        server = flyte_server(asked, None, settings, environ)
        return _Candidate(WithoutAuthentication(server), (name, server))
    spec = default_order.spec(name, settings, environ, wanted=asked.endpoint or asked.configured)
    if isinstance(spec, Unconfigured):
        return _Candidate(spec, name)
    return _candidate(spec, asked, None, settings, environ)


def _candidate(
    spec: ProviderSpec, asked: Asked, binding: Binding | None, settings: Settings, environ: Mapping[str, str]
) -> _Candidate:
    server = None
    if isinstance(spec, ApiKeySpec | ServerSpec):
        server = flyte_server(asked, binding, settings, environ)
    provider = providers.build(
        spec,
        environ,
        in_pod=settings.in_pod,
        server=server,
        reach=lambda named: reach(named, asked, binding, settings, environ),
        interactive=asked.interactive,
        source=_configured_by(spec, binding, settings, environ),
    )
    return _Candidate(provider, spec, binding)


def _configured_by(spec: ProviderSpec, binding: Binding | None, settings: Settings, environ: Mapping[str, str]) -> str:
    """The file or the variable that names the socket, file or command of `spec`; empty where it is a default."""
    if binding is not None:
        key = {"file": ": path", "agent": ": socket"}.get(spec.kind, "")
        return f"{settings.source}{key}"
    if isinstance(spec, FileSpec):
        return "AUTHAGENT_TOKEN_FILE"
    if isinstance(spec, CommandSpec):
        return flyte_config.load(environ).said.get("command", "")
    return "AUTHAGENT_SOCKET" if isinstance(spec, AgentSpec) and settings.socket_is_set else ""


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
        asked.endpoint or (candidate.binding.endpoint if candidate.binding else None) or asked.configured,
        wanted.subject,
        wanted.client,
        wanted.audience,
        tuple(sorted(wanted.scopes)),
        asker,
        asked.interactive,
    )


def _source(asked: Asked, candidate: _Candidate) -> Source:
    return Source(_fetch(asked, candidate), patience=candidate.patience)


def _fetch(asked: Asked, candidate: _Candidate) -> Callable[[float | None], Credential]:
    wanted, provider = _wanted(asked, candidate.binding), candidate.provider

    def fetch(min_lifetime: float | None) -> Credential:
        credential = provider.fetch(wanted, min_lifetime=min_lifetime)
        if credential is None:
            raise NoCredential(f"{provider.kind}: {provider.absent}", hint=provider.remedy)
        return credential

    return fetch


def _described(context: Context) -> str:
    """Names come from elsewhere, and may be long; all of them stand in `attempts`."""
    known = [f"{name} {_short(value)}" for name, value in context.facts().items() if value]
    return ", ".join(known[:4]) or "this process"


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "\N{HORIZONTAL ELLIPSIS}"
