"""
`authagent`: finds the command, runs it, and is the only place that prints our errors.

It imports nothing but `sys` before it knows the command: `authagent token` is run before each call of other tools.
"""

import sys

COMMANDS = {
    "token": "print one fresh access token",
    "login": "log in, once for all your programs",
    "logout": "end the login, here and at the identity provider",
    "whoami": "say for whom the credential speaks",
    "status": "say which provider serves this place, and until when",
    "env": "print what a shell must set for pyflyte to use this login",
    "doctor": "find out what is wrong, and what to do about it",
    "serve": "run the auth agent",
    "policy": "say what the agent's rules mean, and whom they would give what",
    "grant": "let an execution act for you, for a time",
    "grants": "list the executions that may act for you",
    "revoke": "end what you granted",
    "run": "launch something that acts for you",
    "systemd-unit": "print a unit for systemd that starts the agent",
    "sandbox": "run an embedded Flyte, for demos and tests",
}


def main(arguments: "list[str] | None" = None) -> int:
    """
    Run the command that `arguments` (those of the process) name.

    Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 no credential, 4 refused, 5 unavailable, try again.
    """
    given = sys.argv[1:] if arguments is None else arguments
    name, rest = (given[0], given[1:]) if given else ("", [])
    if name in ("-h", "--help"):
        _print(_usage())
        return 0
    if name == "--version":
        from importlib.metadata import version

        _print("authagent " + version("flytekitplugins-authagent"))
        return 0
    if name not in COMMANDS:
        from flytekitplugins.authagent.suggestion import did_you_mean

        problem = "name a command" if not name else "there is no command " + repr(name) + did_you_mean(name, COMMANDS)
        _complain("authagent: " + problem + "\n\n" + _usage())
        return 2
    if name == "token":
        from flytekitplugins.authagent.cli.token import quickly

        status = quickly(rest)
        if status is not None:
            return status
    return _run(name, rest)


def _run(name: str, rest: "list[str]") -> int:
    from importlib import import_module
    from os import environ

    if name != "run":  # its command has the environment that it would have had
        environ.setdefault("GRPC_VERBOSITY", "NONE")  # what went wrong is said by us

    from flytekitplugins.authagent.errors import AuthAgentError

    try:
        status: int = import_module(__name__ + "." + name.replace("-", "_")).run(rest)
    except AuthAgentError as error:
        _complain("authagent: " + str(error.args[0]))
        if error.hint:
            _complain("hint: " + error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; that is theirs to say
        return 1
    return status


def _usage() -> str:
    lines = ["usage: authagent COMMAND [OPTIONS]", "", "commands:"]
    lines += ["  " + name.ljust(13) + what for name, what in COMMANDS.items()]
    lines += ["", "authagent COMMAND --help says what its options are; authagent --version says which release this is."]
    lines += ["Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 no credential, 4 refused,"]
    return "\n".join([*lines, "5 unavailable, try again."])


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
