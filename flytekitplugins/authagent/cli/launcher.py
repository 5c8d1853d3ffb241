"""What a command line will launch, and how it is told the name of the execution."""

from __future__ import annotations

import configparser
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from pydantic import BaseModel, ConfigDict

from flytekitplugins.authagent import flyte_config, trust, yaml_file
from flytekitplugins.authagent.cli import script
from flytekitplugins.authagent.errors import ConfigError
from flytekitplugins.authagent.hub_client import check_execution

PLACEHOLDER = "{execution}"

WITH_VALUE = frozenset(
    """
    -p --project -d --domain --destination-dir --copy -i --image --service-account --poll-interval --interruptible
    --envvars --env --resource-requests --resource-limits --tags --tag --name --labels --label --annotations
    --annotation --raw-output-data-prefix --raw-data-prefix --max-parallelism --limit --cluster-pool
    --execution-cluster-label --ecl
    """.split()  # noqa: SIM905 - thirty lines, as a list
)
"""The options of `pyflyte run` that have a value; a test compares them with flytekit's."""

OF_PYFLYTE = frozenset({"-k", "--pkgs", "-c", "--config"})
"""Those of `pyflyte` itself."""

NAMED_PYFLYTE = Path(__file__).with_name("named_pyflyte.py")
"""What runs a `pyflyte` whose arguments nobody else may see."""

ALWAYS_REMOTE = frozenset({"remote-launchplan", "remote-workflow", "remote-task"})
"""What `pyflyte run` launches without being told --remote."""


@dataclass(frozen=True)
class Launch:
    """
    A command line that launches `execution` (`project:domain:name`), and what its environment has beside ours.

    `is_seen`: whether the name is among the arguments of a command that could not be told it otherwise.
    """

    argv: tuple[str, ...]
    execution: str
    environ: Mapping[str, str] = field(default_factory=dict)
    is_seen: bool = False


def new_name() -> str:
    """A name that Flyte takes, and that nobody guesses: who knows it could launch under the grant before us."""
    return "f" + secrets.token_hex(10)[:19]


def plan(
    command: Sequence[str], name: str, environ: Mapping[str, str], *, project: str | None, domain: str | None
) -> Launch:
    """
    How `command` launches an execution called `name`.

    `pyflyte run` is told with --name, which no other user of the machine sees where it is a script of Python's.
    Everything else finds the name where it says `{execution}`, and in the environment. Raises `ConfigError` for a
    command that launches nothing, or under a name of its own.
    """
    if PurePath(command[0]).name == "pyflyte":
        _, at = _scan(command, 1, OF_PYFLYTE)
        if list(command[at : at + 1]) == ["run"]:
            return _pyflyte_run(command, at + 1, name, environ, project, domain)
    where = (project or _default("project", environ), domain or _default("domain", environ))
    told = {"": name, "_PROJECT": where[0], "_DOMAIN": where[1]}
    return Launch(
        tuple(argument.replace(PLACEHOLDER, name) for argument in command),
        check_execution(":".join((*where, name))),
        {f"AUTHAGENT_EXECUTION{part}": value for part, value in told.items()},
    )


def _pyflyte_run(  # noqa: PLR0917 - one caller, above
    command: Sequence[str], at: int, name: str, environ: Mapping[str, str], project: str | None, domain: str | None
) -> Launch:
    options, end = _scan(command, at, WITH_VALUE)
    said = dict(options)
    if not said.keys() & {"-r", "--remote"} and not set(command[end : end + 1]) & ALWAYS_REMOTE:
        raise ConfigError("`pyflyte run` without --remote launches nothing", hint="add --remote right after run")
    if "--help" in said:
        raise ConfigError("`pyflyte run --help` launches nothing", hint="run it by itself")
    own_name = said.get("--name")
    if own_name not in (None, PLACEHOLDER):
        raise ConfigError(
            "the command names the execution itself, and who guesses the name could launch under the grant",
            hint="leave --name out; or launch first, and then run `authagent grant`",
        )
    added: list[str] = [] if own_name else ["--name", PLACEHOLDER]
    where = []
    for option, wanted in (("project", project), ("domain", domain)):
        own = next((value for key, value in reversed(options) if key in (f"-{option[0]}", f"--{option}")), None)
        if own and wanted and own != wanted:
            raise ConfigError(f"--{option} is {wanted!r} here, and {own!r} in the command", hint="say it once")
        if wanted and not own:
            added += [f"--{option}", wanted]
        where.append(own or wanted or _default(option, environ))
    told = (*command[1:at], *added, *command[at:end])
    return _unseen(command[0], told, command[end:], check_execution(":".join((*where, name))), environ)


def _unseen(
    pyflyte: str, told: Sequence[str], rest: Sequence[str], execution: str, environ: Mapping[str, str]
) -> Launch:
    """`pyflyte` with the arguments `told`, where `{execution}` is the name, and the `rest` as it is."""
    program = shutil.which(pyflyte, path=environ.get("PATH"))
    if program is None:  # nor will it be run
        return Launch((pyflyte, *told, *rest), execution)
    name = execution.rpartition(":")[2]
    python = script.interpreter(program)
    if not python:
        named = [argument.replace(PLACEHOLDER, name) for argument in told]
        return Launch((pyflyte, *named, *rest), execution, is_seen=True)
    argv = (*python, str(NAMED_PYFLYTE), program, str(len(told)), *told, *rest)
    return Launch(argv, execution, {"AUTHAGENT_EXECUTION": name})


def _scan(command: Sequence[str], at: int, with_value: frozenset[str]) -> tuple[list[tuple[str, str | None]], int]:
    """The options from `at` on, as click reads them, and where the first argument stands that is none."""
    found: list[tuple[str, str | None]] = []
    while at < len(command):
        argument, following = command[at], command[at + 1] if at + 1 < len(command) else None
        if argument == "--":
            return found, at + 1
        if not argument.startswith("-") or argument == "-":
            break
        at += 1
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            if option in with_value and not equals:
                found.append((option, following))
                at += 1
            else:
                found.append((option, value if equals else None))
            continue
        for n, letter in enumerate(argument[1:], 2):
            if f"-{letter}" in with_value:
                found.append((f"-{letter}", argument[n:] or following))
                at += not argument[n:]
                break
            found.append((f"-{letter}", None))
    return found, at


class _Task(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    project: str | None = None
    domain: str | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    task: _Task = _Task()


def _default(option: str, environ: Mapping[str, str]) -> str:
    """The project or the domain that `pyflyte` takes where it is told none."""
    for variable in (f"FLYTE_DEFAULT_{option.upper()}", f"FLYTE_LOCAL_{option.upper()}"):
        if value := environ.get(variable):
            return value
    source = flyte_config.load(environ).source
    known = {"project": "flytesnacks", "domain": "development"}[option]
    return (_written(Path(source), option) if source else None) or known


def _written(path: Path, option: str) -> str | None:
    if path.suffix in (".yaml", ".yml"):
        value: str | None = getattr(yaml_file.load(path, _File).task, option)
        return value
    parser = configparser.ConfigParser()
    parser.read_string(trust.read(path, secret=False, limit=yaml_file.MAX_FILE).decode())
    return parser.get("local", option, raw=True, fallback=None)
