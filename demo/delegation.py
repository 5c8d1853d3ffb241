"""
The second part of `make demo`: tasks that act for whoever launched them, told by doing it.

A sandbox with a hub starts. alice and bob each launch the same eager workflow with `authagent run`, and Flyte shows
each of them as the principal of the child that it launches. mallory launches an execution that looks like alice's,
because whoever may launch at all can make one; its task gets nothing. What is printed was looked up afterwards, and
whatever deviates is printed too; the exit status is 1 then.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import story
import yaml
from story import BIN, EXAMPLES, PATIENCE, WHERE, fetch, say

EXAMPLE = EXAMPLES / "acts_for_you.py"


def main() -> int:
    """Tell the story; 0 if it went as told."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="authagent-demo-") as name:
        directory = Path(name)
        with story.sandbox(directory, "--hub", "--posture", "external") as place:
            told = Delegation(place, directory)
            told.people()
            told.forger()
            return told.end(time.monotonic() - began)


class Delegation:
    """Launches as one person after the other, and remembers what was not as it should be."""

    def __init__(self, place: dict[str, Any], directory: Path) -> None:
        self.place, self.directory = place, directory
        self.deviations: list[str] = []
        self.victim: dict[str, Any] = {}
        say("\nActing for whoever launched it: a sandbox with a hub, which keeps what people have consented to.\n")

    def people(self) -> None:
        """Two people, the same workflow, and whom Flyte names."""
        for person in ("alice", "bob"):
            command = [str(BIN / "authagent"), "run", "--for", "1h", "--", str(BIN / "pyflyte"), "run", "--remote"]
            done = self.run(person, [*command, "--wait", *WHERE, str(EXAMPLE), "main"])
            mine = [e for e in self.executions() if e["principal"] == person]
            child = next((e for e in mine if e["entity"].endswith("whose")), {})
            say(f"  {person} consents and launches acts_for_you.main, exit status {done.returncode}:")
            for execution in mine:
                name, phase = execution["id"]["name"], execution["phase"]
                say(f"    {execution['entity']:<20} {name:<38} {phase:<10} principal {execution['principal']}")
            self.expect(done.returncode, 0, f"the exit status for {person}: {done.stderr[-500:]}")
            self.expect(sorted(e["phase"] for e in mine), ["SUCCEEDED"] * 2, f"the executions of {person}")
            self.expect(child.get("principal"), person, f"the principal of what the task of {person} launched")
            self.victim = self.victim or mine[0]

    def forger(self) -> None:
        """Somebody else, who names alice's execution as the parent of hers."""
        forge = [sys.executable, str(Path(__file__).with_name("forge.py")), self.victim["id"]["name"]]
        done = self.run("mallory", forge)
        if done.returncode:
            raise SystemExit(f"DEVIATION: nothing could be forged:\n{done.stderr}")
        name = done.stdout.strip()
        forged = self.wait_for_the_end_of(name)
        say("  mallory launches the same, and names an execution of alice's as its parent:")
        principal = forged["principal"]
        say(f"    {forged['entity']:<20} {name:<38} {forged['phase']:<10} principal {principal}, so Flyte says")
        error = str(forged.get("error", ""))
        self.expect(forged["principal"], "alice", "whom Flyte names for the forged execution")
        self.expect(forged["phase"], "FAILED", "how the forged execution ended")
        self.expect("nobody has consented" in error, True, f"what its task was told: {error[-400:]}")

    def end(self, seconds: float) -> int:
        """Count what it took, and say what was not as told."""
        deadline = time.monotonic() + 30
        while (counts := fetch(self.place["control"] + "/counts"))["revocations"].get("hub", 0) < 2:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        of_hub = {event: counts[event].get("hub", 0) for event in ("exchanges", "refreshes", "revocations")}
        rejected = sum(n["rejected"] for n in counts["rpcs"].values())
        self.expect(of_hub, {"exchanges": 2, "refreshes": 0, "revocations": 2}, "what the hub asked the provider for")
        self.expect(rejected, 0, "rejected RPCs")
        if not self.deviations:
            say("    its task was refused: nobody has consented that this execution acts for them\n")
            say("The hub asked the identity provider for")
            say(f"  consents:    {of_hub['exchanges']}, one for what each person launched, its child included")
            say(f"  revocations: {of_hub['revocations']}, one at the end of each")
            say(f"and of {sum(n['accepted'] for n in counts['rpcs'].values())} RPCs {rejected} were rejected.")
            say(f"\nAs told, in {seconds:.0f} s.")
        for deviation in self.deviations:
            say(f"DEVIATION: {deviation}")
        return 1 if self.deviations else 0

    def run(self, person: str, command: list[str]) -> subprocess.CompletedProcess[str]:
        """`command` on the laptop of `person`, who has tokens for Flyte and for the hub."""
        home = self.directory / person
        home.mkdir(exist_ok=True, mode=0o700)
        hub = {
            "url": self.place["hub"]["url"],
            "provider": {"kind": "file", "path": self.place["users"][person]["hub_token_file"]},
        }
        configuration = home / "authagent.yaml"
        configuration.write_text(yaml.safe_dump({"hub": hub}))
        configuration.chmod(0o600)
        story.become(person, self.place)
        environ = os.environ | {"HOME": str(home), "AUTHAGENT_CONFIG": str(configuration)}
        return subprocess.run(  # noqa: S603 - our own programs, and pyflyte
            command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def executions(self) -> list[dict[str, Any]]:
        """All that the sandbox knows."""
        found: list[dict[str, Any]] = fetch(self.place["control"] + "/executions")
        return found

    def wait_for_the_end_of(self, name: str) -> dict[str, Any]:
        """The execution called `name`, once it is over."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = next(e for e in self.executions() if e["id"]["name"] == name)
            if found["phase"] in ("SUCCEEDED", "FAILED", "ABORTED") or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def expect(self, found: object, wanted: object, what: str) -> None:
        """Remember a deviation."""
        if found != wanted:
            self.deviations.append(f"{what}: {found!r}, not {wanted!r}")


if __name__ == "__main__":
    sys.exit(main())
