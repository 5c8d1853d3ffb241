"""
`make demo`: the main job, told by doing it.

A sandbox starts (identity provider, Flyte, agent), alice registers `examples/` and launches what is in it, and the
tasks call Flyte with credentials that came through the agent's socket. Everything that is printed was looked up
afterwards; anything that deviates from the story is printed too, and the exit status is 1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

EXAMPLES = Path(__file__).parent.parent / "examples"
DECKS = Path(__file__).parent.parent / "build" / "demo"
BIN = Path(sys.executable).parent
START = 60.0  # seconds for the sandbox to answer
PATIENCE = 150.0  # seconds for one execution
VERSION = "demo"
WHERE = ["--project", "flytesnacks", "--domain", "development"]


def main() -> int:
    """Tell the story; 0 if it went as told."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="authagent-demo-") as directory, sandbox(Path(directory)) as place:
        become("alice", place)
        register()
        story = Story(place)
        story.hello()
        story.many()
        story.dates()
        story.operate()
        story.eager()
        story.launcher()
        story.children()
        return story.end(time.monotonic() - began)


@contextmanager
def sandbox(directory: Path, *options: str) -> Iterator[dict[str, Any]]:
    """A sandbox of our own with these `options`: what its ready file says, once everything in it answers."""
    ready = directory / "ready.json"
    arguments = [sys.executable, "-m", "flytekitplugins.authagent", "sandbox", "--ready", str(ready), *options]
    with (directory / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT)  # noqa: S603 - our own program
    try:
        deadline = time.monotonic() + START
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the sandbox did not start:\n" + (directory / "sandbox.log").read_text())
            time.sleep(0.05)
        yield json.loads(ready.read_text())
    finally:
        process.terminate()
        process.wait(timeout=30)


def become(user: str, place: dict[str, Any]) -> None:
    """Let this process, and those that it starts, be `user` on a laptop: a token file, and no agent."""
    for name in [n for n in os.environ if n.startswith(("FLYTE_", "FLYTECTL_", "AUTHAGENT_", "_F"))]:
        del os.environ[name]
    os.environ |= {
        "FLYTE_PLATFORM_URL": place["flyte_endpoint"],
        "FLYTE_PLATFORM_INSECURE": "true",
        "FLYTE_CREDENTIALS_AUTH_MODE": "authagent",
        "AUTHAGENT_PROVIDER": "file",
        "AUTHAGENT_TOKEN_FILE": place["users"][user]["token_file"],
        "FLYTE_SDK_LOGGING_LEVEL": "40",
    }


def register() -> None:
    """As everybody does it."""
    command = [str(BIN / "pyflyte"), "register", *WHERE, "--version", VERSION, str(EXAMPLES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603 - pyflyte
    if done.returncode:
        raise SystemExit(f"pyflyte register failed:\n{done.stdout}\n{done.stderr}")


class Story:
    """Launches, waits, prints, and remembers what was not as it should be."""

    def __init__(self, place: dict[str, Any]) -> None:
        from flytekit.configuration import Config
        from flytekit.remote import FlyteRemote

        self.place = place
        self.remote = FlyteRemote(Config.auto(), default_project="flytesnacks", default_domain="development")
        self.deviations: list[str] = []
        self.executions: list[Any] = []
        say(f"A sandbox is up: Flyte at {place['flyte_endpoint']}, its identity provider at {place['issuer']},")
        say(f"and an agent at {place['agent_socket']}, which alone knows a client secret.")
        say("alice, who has a token of her own, registers examples/ and launches:\n")

    def hello(self) -> None:
        """A plain task, inside a workflow."""
        self.succeeded = self.launch("hello.main", "a task reads its own execution", {"name": "flyte"})
        self.expect_in("hello flyte, this is", self.succeeded.outputs["o0"])

    def many(self) -> None:
        """A map task."""
        done = self.launch("many.main", "a map task, one look-up an item", {"names": ["ada", "grace", "edsger"]})
        self.expect(len(done.outputs["o0"]), 3, "items of the map task")

    def dates(self) -> None:
        """The RFC's first example: a date for what succeeded, nothing for what failed or still runs."""
        failed = self.launch("execution_date.failing", "a workflow that fails, to ask about", phase="FAILED")
        ask = "execution_date.get_execution_date"
        about = {
            "succeeded": self.launch(ask, "RFC 4570: a succeeded one's", {"execution_id": self.succeeded.id.name}),
            "failed": self.launch(ask, "RFC 4570: a failed one's date", {"execution_id": failed.id.name}),
            "running": self.launch("execution_date.get_own_date", "RFC 4570: a running one's, its own"),
        }
        started = self.succeeded.closure.started_at.isoformat()
        self.expect(about["succeeded"].outputs["o0"], started, "the date of a succeeded execution")
        self.expect(about["failed"].outputs["o0"], None, "the date of a failed execution")
        self.expect(about["running"].outputs["o0"], None, "the date of a running execution")

    def operate(self) -> None:
        """What the RFC wants a task to be able to do: create, register, launch, look at itself, run `pyflyte`."""
        done = self.launch("operate_flyte.everything", "register, launch, build, from tasks")
        self.expect(done.outputs["o1"], 42, "what the launched workflow returned")
        self.expect(done.outputs["o2"]["version"], VERSION, "the version that the task runs")
        self.expect(done.outputs["o3"], ["nightly_report.report"], "what the task registered by pyflyte")

    def eager(self) -> None:
        """The RFC's second example: an eager workflow with children."""
        done = self.launch("eager_hello.hello_main", "RFC 4570: an eager workflow", {"names": ["ada", "grace"]})
        self.expect(done.outputs["o0"], ["hello ada!", "hello grace!"], "what the eager workflow returned")

    def launcher(self) -> None:
        """A task is told who launched it."""
        done = self.launch("who_launched_me.main", "a task is told who launched it")
        self.expect(done.outputs["o0"], "launched by alice (control_plane)", "who launched it")

    def children(self) -> None:
        """Nobody but the sandbox knows all executions: the eager workflow launched some of its own."""
        known = {e.id.name for e in self.executions}
        found = fetch(self.place["control"] + "/executions")
        self.born = [e for e in found if e["id"]["name"] not in known]
        for child in self.born:
            self.expect(child["phase"], "SUCCEEDED", f"the child {child['id']['name']}")
        self.expect(len(self.born), 3, "children: two of the eager workflow, one that a task launched")
        by_alice = [e for e in found if e["principal"] == "alice"]
        self.expect(len(by_alice), len(self.executions), "executions whose principal is alice")
        self.decks = [keep(e["entity"], uri) for e in found for uri in e["deck_uris"]]
        self.expect([deck.stat().st_size > 1000 for deck in self.decks], [True] * 2, "decks with something in them")

    def launch(self, name: str, what: str, inputs: dict[str, Any] | None = None, phase: str = "SUCCEEDED") -> Any:
        """Launch the example `name`, wait for its end, and print a line about it."""
        from flytekit.models.core.execution import WorkflowExecutionPhase

        began = time.monotonic()
        execution = self.remote.execute(self.found(f"examples.{name}"), inputs=inputs or {}, wait=False)
        while not execution.is_done and time.monotonic() < began + PATIENCE:
            time.sleep(0.2)
            execution = self.remote.sync_execution(execution)
        self.executions.append(execution)
        ended = WorkflowExecutionPhase.enum_to_string(execution.closure.phase)
        say(f"  {what:<38} {name:<36} {ended:<10} {time.monotonic() - began:4.1f} s")
        if ended != phase:
            error = execution.error.message if execution.error else "no error"
            raise SystemExit(f"DEVIATION: {name} ended {ended}, not {phase}: {error[-2000:]}")
        return execution

    def found(self, name: str) -> Any:
        """The launch plan called `name`, where there is one (a workflow's, an eager task's), or the task."""
        from flytekit.exceptions.user import FlyteEntityNotExistException

        try:
            return self.remote.fetch_launch_plan(name=name, version=VERSION)
        except FlyteEntityNotExistException:
            return self.remote.fetch_task(name=name, version=VERSION)

    def end(self, seconds: float) -> int:
        """Count what it took, and say what was not as told."""
        counts = fetch(self.place["control"] + "/counts")
        accepted = sum(n["accepted"] for n in counts["rpcs"].values())
        rejected = sum(n["rejected"] for n in counts["rpcs"].values())
        self.expect(rejected, 0, "rejected RPCs")
        self.expect(counts["expired_tokens"], 0, "expired tokens sent")
        self.expect(counts["mints"].get("flyte-agent"), 1, "tokens minted for the agent")
        agents = sum(n["accepted"] for n in counts["clients"].get("flyte-agent", {}).values())
        if not self.deviations:
            say(f"\nalice launched {len(self.executions)} executions, and their tasks {len(self.born)} more.")
            say("Their tasks called Flyte through the provider `agent`, as the client flyte-agent:")
            say(f"  tokens minted for them:  {counts['mints']['flyte-agent']}, shared by every process")
            say(f"  RPCs with that token:    {agents}, of {accepted} in all")
            say(f"  RPCs rejected:           {rejected}")
            say(f"Their decks: {' '.join(str(deck) for deck in self.decks)}")
            say(f"\nAs told, in {seconds:.0f} s.")
        for deviation in self.deviations:
            say(f"DEVIATION: {deviation}")
        return 1 if self.deviations else 0

    def expect(self, found: object, wanted: object, what: str) -> None:
        """Remember a deviation."""
        if found != wanted:
            self.deviations.append(f"{what}: {found!r}, not {wanted!r}")

    def expect_in(self, part: str, text: str) -> None:
        """Remember a deviation."""
        if part not in text:
            self.deviations.append(f"{text!r} does not hold {part!r}")


def keep(entity: str, deck: str) -> Path:
    """A copy of a deck, for the sandbox and its files will be gone when the story is read."""
    DECKS.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(deck.removeprefix("file://"), DECKS / f"{entity.removeprefix('examples.')}.html"))


def fetch(url: str) -> Any:
    """A JSON document of the sandbox's."""
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - a loopback URL out of the ready file
        return json.load(answer)


def say(line: str) -> None:
    """One line of the story."""
    print(line, flush=True)  # noqa: T201 - telling is what this program does


if __name__ == "__main__":
    sys.exit(main())
