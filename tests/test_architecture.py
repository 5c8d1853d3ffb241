"""Imports point down, and flytekit appears only on the task side."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "flytekitplugins" / "authagent"
PREFIX = "flytekitplugins.authagent"

LAYERS = [
    {"errors", "own_words", "suggestion", "wire"},
    {"credential", "environment", "context", "kind", "endpoint", "trust", "recoverable", "rejection", "terminal"}
    | {"extras", "flyte_kind"},
    {"yaml_file", "oauth", "source", "passthrough", "callback", "program", "asked", "deadline", "place"}
    | {"bounded_cache", "ca_bundle", "http_proxy"},
    {"flyte_probe"},
    {"specs", "http", "sources", "discovery", "session", "keyring_items", "login_files", "session_lock"},
    {"config", "flyte_config", "session_store"},
    {"binding", "flytekit_mode", "providers"},
    {"default_order"},
    {"acceptance", "reach", "hub_client"},
    {"agent", "resolve"},
    {"diagnosis"},
    {"flyte", "failed_call", "launching_client", "passthrough_client"},
    {"flytekit_client"},
    {"task", "bound_parameters", "user_info"},
    {"authenticator", "task_remote", "identity"},
    {"handle"},
    {"bind", "remote"},
    {"abort_children", "abort_orphans"},
    {"eager_workflow", "auto_binding"},
    {"auto"},
    {"hub"},
    {"sandbox"},
    {"cli", "testing"},
    {"__main__", "__init__"},
]
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}

TASK_SIDE = {
    "abort_children", "abort_orphans", "auto_binding", "authenticator", "bind", "bound_parameters", "eager_workflow",
    "failed_call", "flyte", "flytekit_client", "handle", "identity", "launching_client", "passthrough_client",
    "recoverable", "remote", "sandbox", "task", "task_remote", "testing", "user_info",
}  # fmt: skip
"""Who may know flytekit."""


def imports(file: Path, *, lazy: bool) -> set[str]:
    """The modules that `file` imports when it is imported; with `lazy` also those inside functions."""
    tree = ast.parse(file.read_text())
    nodes = list(ast.walk(tree)) if lazy else list(_eager(tree))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _eager(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
            continue
        yield child
        yield from _eager(child)


def room(file: Path) -> str:
    relative = file.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_file_has_its_height() -> None:
    assert {room(file) for file in FILES} == set(HEIGHT)


def test_imports_point_down() -> None:
    wrong = []
    for file in FILES:
        for name in imports(file, lazy=False):
            if name.startswith(PREFIX + "."):
                other = name.removeprefix(PREFIX + ".").split(".")[0]
                if other in HEIGHT and other != room(file) and HEIGHT[other] >= HEIGHT[room(file)]:
                    wrong.append(f"{file.relative_to(PACKAGE)} imports {other}")
    assert not wrong, sorted(set(wrong))


def test_flytekit_is_known_on_the_task_side_only() -> None:
    for file in FILES:
        known = {name.split(".")[0] for name in imports(file, lazy=True)} & {"flytekit", "flyteidl", "grpc"}
        # Two anonymous RPCs, and the hub's look at an execution, without flytekit.
        known -= {"flyteidl", "grpc"} if room(file) in ("discovery", "flyte_kind", "hub") else set()
        assert not known or room(file) in TASK_SIDE, f"{file.relative_to(PACKAGE)} knows {known}"


def test_pytest_is_known_in_the_file_of_fixtures_only() -> None:
    for file in FILES:
        known = {name.split(".")[0] for name in imports(file, lazy=True)} & {"pytest", "_pytest", "unittest"}
        assert not known or room(file) == "testing", f"{file.relative_to(PACKAGE)} knows {known}"


def test_the_sandbox_is_imported_by_its_command_and_the_fixture_that_starts_it_only() -> None:
    for file in FILES:
        if room(file) != "sandbox" and file.relative_to(PACKAGE).as_posix() not in ("cli/sandbox.py", "testing.py"):
            assert not any(name.startswith(PREFIX + ".sandbox") for name in imports(file, lazy=True)), file
