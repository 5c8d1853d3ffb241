"""`authagent policy`: what the rules of the agent say, and whom they would give what."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flytekitplugins.authagent.agent import daemon, policy
from flytekitplugins.authagent.agent.asked import Asked
from flytekitplugins.authagent.agent.file import AgentFile
from flytekitplugins.authagent.agent.peer import Peer
from flytekitplugins.authagent.agent.refusal import Refusal
from flytekitplugins.authagent.agent.rule import IDENTITY_KINDS, Narrow, Rule, Tokens
from flytekitplugins.authagent.agent.upstream import GrantSpec
from flytekitplugins.authagent.agent.workload import Pod, Workload
from flytekitplugins.authagent.cli import named, store
from flytekitplugins.authagent.cli.shown import printable
from flytekitplugins.authagent.errors import ConfigError, Denied

ATTESTED = ("uid", "gid", "namespace", "service_account", "project", "domain", "execution")
HINTS = ("task", "execution_identity", "identity_kind")

_LABEL = "label."


def run(arguments: list[str]) -> int:
    """Check or explain. Exit codes: 0 good, or given; 2 a bad file or question; 4 refused."""
    options = _parser().parse_args(arguments)
    if options.what == "check":
        return _check(options.file, rules_only=options.rules_only)
    file = daemon.load(options.config)
    workload, asked = _described(options)
    return _explain(file, workload, asked, as_json=options.json)


def _check(path: Path, *, rules_only: bool) -> int:
    """The rules first, then what is wrong with the files that they need."""
    file = daemon.load(path)
    weakness = store.check(file)
    for number, rule in enumerate(file.rules, 1):
        sys.stdout.write(f"{number}. {printable(rule.name)}: {_who(rule)}{_narrowed(rule)}: {_gives(rule, file)}\n")
    for note in _notes(file):
        sys.stderr.write(f"note: {printable(note)}\n")
    if weakness:
        sys.stderr.write(f"note: the store: {printable(weakness)}\n")
    if not rules_only:
        named.check(file, path)
    return 0


def _notes(file: AgentFile) -> Iterator[str]:
    """What is no error and may be a mistake."""
    for index, rule in enumerate(file.rules):
        for earlier in file.rules[:index]:
            always = earlier.give.when == "always" or rule.give.when == "asked"
            if always and earlier.who == rule.who and earlier.narrow in (Narrow(), rule.narrow):
                yield f"the rule {rule.name!r} never decides: {earlier.name!r} comes before it"
                break
        if rule.give.max_lifetime is None:
            yield (
                f"the rule {rule.name!r} has no max_lifetime, so its tokens live as long as the provider lets them"
                + (", past the end of a grant" if rule.give.upstream in file.delegating else "")
            )
        yield from _notes_on_grants(rule)
    used = {rule.give.upstream for rule in file.rules}
    used |= {rule.give.otherwise.upstream for rule in file.rules if rule.give.otherwise}
    used |= {file.hub.ask_flyte_as} if file.hub else set()
    for name in sorted(set(file.upstreams) - used):
        yield f"no rule gives from the upstream {name!r}"
    yield from _notes_on_the_hub(file)
    if file.audit is None:
        yield "nothing is written down, for there is no audit:"


def _notes_on_grants(rule: Rule) -> Iterator[str]:
    other = rule.give.otherwise
    if other is None:
        if rule.give.scheduled == "refuse":
            yield f"the rule {rule.name!r} has scheduled: refuse, and gives nothing without a person anyway"
        return
    yield (
        f"the rule {rule.name!r} gives the tokens of {other.upstream!r} wherever nobody has consented, "
        "unless the task asks for a person"
    )
    if other.max_lifetime is None:
        yield f"the rule {rule.name!r} has no max_lifetime in otherwise, which is not that of the rule"


def _notes_on_the_hub(file: AgentFile) -> Iterator[str]:
    hub = file.hub
    if hub is None:
        return
    if not hub.people.clients:
        yield (
            f"people: names no clients, so whoever can get a token for {hub.people.audience!r} passes for a person, "
            "a service with its own token, too"
        )
    if hub.store == "memory":
        yield "the store is memory: when the hub ends, all grants are gone, and what was kept of them is not revoked"


def _explain(file: AgentFile, workload: Workload, asked: Asked, *, as_json: bool) -> int:
    considered = [(rule, policy.differences(rule, workload, asked)) for rule in file.rules]
    decided, refusal = None, None
    try:
        decided = policy.decide(file.rules, workload, asked, file.delegating)
    except Refusal as refused:
        refusal = refused
    if as_json:
        _print_json(file, considered, decided, refusal)
    else:
        _print_lines(file, considered, decided, refusal, asked)
    return 0 if refusal is None else Denied.exit_code


def _print_lines(
    file: AgentFile,
    considered: Sequence[tuple[Rule, list[policy.Difference]]],
    decided: Rule | None,
    refusal: Refusal | None,
    asked: Asked,
) -> None:
    width = max((len(rule.name) for rule, _ in considered), default=0)
    chosen = False
    for rule, differences in considered:
        name = f"{printable(rule.name):<{width}}"
        if differences:
            _line(f"no   {name}  {differences[0]}")
            for difference in differences[1:]:
                _line(f"     {'':<{width}}  {difference}")
        elif chosen:
            _line(f"-    {name}  an earlier rule has decided")
        else:
            chosen = True
            _line(f"yes  {name}  {_gives(rule, file)}{_only_by_hints(rule)}")
    if refusal is not None:
        reason = f" ({refusal.reason})" if refusal.reason else ""
        _line(f"refused: {refusal.error}: {refusal.description}{reason}")
    elif decided is not None:
        _line(f"given: by the rule {decided.name!r}{_if_consented(decided, file, asked)}")


def _print_json(
    file: AgentFile,
    considered: Sequence[tuple[Rule, list[policy.Difference]]],
    decided: Rule | None,
    refusal: Refusal | None,
) -> None:
    rules = [
        {"name": rule.name, "matches": not found, "differences": [difference._asdict() for difference in found]}
        for rule, found in considered
    ]
    content: dict[str, Any] = {"outcome": "given", "rule": None, "reason": None, "rules": rules}
    if decided is not None:
        needs_consent = decided.give.upstream in file.delegating
        content |= {"rule": decided.name, "give": decided.give.model_dump(), "needs_consent": needs_consent}
    if refusal is not None:
        content |= {"outcome": refusal.error, "reason": refusal.reason or refusal.description}
    sys.stdout.write(json.dumps(content, indent=2) + "\n")


def _who(rule: Rule) -> str:
    """The attested facts that open the rule."""
    keys = {key: getattr(rule.who, key) for key in ATTESTED}
    return ", ".join(f"{key} {_any(values)}" for key, values in keys.items() if values is not None)


def _narrowed(rule: Rule) -> str:
    said = {key: getattr(rule.narrow, key) for key in HINTS}
    said |= {_LABEL + name: values for name, values in (rule.narrow.labels or {}).items()}
    shown = ", ".join(f"{key} {_any(values)}" for key, values in said.items() if values is not None)
    return f", narrowed by hints to {shown}" if shown else ""


def _only_by_hints(rule: Rule) -> str:
    return "; narrowed by hints, which the caller could change to match less" if rule.narrow != Narrow() else ""


def _gives(rule: Rule, file: AgentFile) -> str:
    give = rule.give
    if give.upstream not in file.delegating:
        return printable(f"gives {_tokens(give)}")
    whom = "" if give.principal in (None, "*") else f" of {give.principal}"
    parts = [f"gives {_tokens(give, speaks_for=f'the consent{whom} for the execution')}"]
    parts += ["only to tasks that ask for a person"] * (give.when == "asked")
    if not isinstance(file.upstreams[give.upstream], GrantSpec):
        return printable("; ".join([*parts, "the hub decides by its own rules"]))
    waits = f"{give.wait:.0f} s"
    if give.otherwise is None:
        return printable("; ".join([*parts, f"without it nothing, after {waits}"]))
    parts += [f"without it {_tokens(give.otherwise)}, but nothing, after {waits}, to tasks that ask for a person"]
    parts += ["and nothing to scheduled executions"] * (give.scheduled == "refuse")
    return printable("; ".join(parts))


def _tokens(give: Tokens, speaks_for: str = "") -> str:
    parts = [f"from {give.upstream}", f"scopes {' '.join(give.scopes) or 'of the upstream'}"]
    parts += [f"audience {give.audience}"] * bool(give.audience)
    parts += [f"by {speaks_for}"] if speaks_for else [f"as {give.principal}"] * bool(give.principal)
    parts += [] if give.max_lifetime is None else [f"at most {give.max_lifetime:.0f} s"]
    return ", ".join(parts)


def _if_consented(rule: Rule, file: AgentFile, asked: Asked) -> str:
    """What must be true besides: of grants a file says nothing."""
    if rule.give.upstream not in file.delegating:
        return ""
    if rule.give.otherwise and asked.subject is None:
        return f", of {rule.give.upstream!r} with consent, else of {rule.give.otherwise.upstream!r}"
    return f", if {asked.subject or 'whoever launched it'} has consented"


def _any(values: Sequence[Any]) -> str:
    return printable(" or ".join(map(str, values)))


def _line(text: str) -> None:
    sys.stdout.write(printable(text) + "\n")


def _described(options: argparse.Namespace) -> tuple[Workload, Asked]:
    """The caller of `--as`, and what it asks for."""
    said: dict[str, str] = {}
    for pair in options.caller:
        key, found, value = pair.partition("=")
        if not found or not value or not (key in ATTESTED + HINTS or key.startswith(_LABEL)):
            raise ConfigError(
                f"--as: {pair!r} is not understood",
                hint=f"write KEY=VALUE; keys: {', '.join(ATTESTED + HINTS)}, label.NAME",
            )
        said[key] = value
    pod = _pod(said)
    identity = None if pod else said.get("execution_identity")
    asked = Asked(
        audience=options.audience,
        scopes=tuple(options.scope),
        subject=options.requested_subject or identity,
        task=said.get("task"),
    )
    return Workload(Peer(_number(said, "uid"), _number(said, "gid"), 0), pod), asked


def _pod(said: dict[str, str]) -> Pod | None:
    if not said.keys() & {"namespace", "service_account", "project", "domain", "execution"}:
        return None
    project, domain, *_ = [*said.get("execution", "").split(":"), "", ""]
    identity = {said["identity_kind"]: "?"} if said.get("identity_kind") in IDENTITY_KINDS else {}
    if "execution_identity" in said:
        identity["execution_identity"] = said["execution_identity"]
    return Pod(
        namespace=said.get("namespace", ""),
        service_account=said.get("service_account", ""),
        name="",
        uid="",
        project=said.get("project") or project or None,
        domain=said.get("domain") or domain or None,
        execution=said.get("execution"),
        labels={key.removeprefix(_LABEL): value for key, value in said.items() if key.startswith(_LABEL)},
        identity=identity,
    )


def _number(said: dict[str, str], key: str) -> int:
    text = said.get(key, "-1")
    if text != "-1" and not (text.isascii() and text.isdigit() and len(text) < 11):
        raise ConfigError(f"--as: {key} is a number, and {text!r} is none")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="authagent policy", description="Say what the rules of the agent's configuration mean."
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="read FILE, say what its rules are, and note what may be a mistake")
    check.add_argument("file", type=_absolute, metavar="FILE", help="agent.yaml")
    check.add_argument(
        "--rules-only", action="store_true", help="open no other file: those that FILE names are on another machine"
    )
    explain = commands.add_parser("explain", help="say which rule decides for a caller, and why the others do not")
    explain.add_argument(
        "--config",
        type=_absolute,
        default=daemon.DEFAULT_FILE,
        metavar="FILE",
        help="agent.yaml (default: %(default)s)",
    )
    explain.add_argument(
        "--as",
        dest="caller",
        nargs="+",
        required=True,
        metavar="KEY=VALUE",
        help=f"the caller; attested: {', '.join(ATTESTED)}; hints: {', '.join(HINTS)}, label.NAME",
    )
    explain.add_argument("--audience", metavar="A", help="the audience that it asks for")
    explain.add_argument("--scope", action="append", default=[], metavar="S", help="a scope that it asks for")
    explain.add_argument("--requested-subject", metavar="P", help="the principal that it asks to speak for")
    explain.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _absolute(text: str) -> Path:
    return Path(text).absolute()
