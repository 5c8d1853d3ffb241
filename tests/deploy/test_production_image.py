"""deploy/Dockerfile: what is installed has hashes that the lock has too. docs/kubernetes.md says how it was built."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STEPS = [line for line in DOCKERFILE.replace("\\\n", "").splitlines() if line and not line.startswith("#")]


def locked(name: str) -> dict[str, set[str]]:
    """The hashes of each `NAME==VERSION` of a requirements file."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        if pinned := re.match(r"([A-Za-z0-9._-]+==\S+)", line):
            hashes = found[pinned[1]] = set()
        elif line.strip().startswith("--hash="):
            hashes.add(line.strip(" \\"))
    return found


def test_each_requirement_has_hashes_and_is_the_locks() -> None:
    lock = locked("lock.txt")
    image = locked("image.txt")
    assert all(image.values())
    assert {pin: hashes for pin, hashes in image.items() if not hashes <= lock.get(pin, set())} == {}
    tools = locked("image-tools.txt")
    assert all(tools.values())
    names = {pin.partition("==")[0] for pin in tools}
    assert names >= {"cyclonedx-bom", "setuptools", "uv", "wheel"}
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"uv==([\d.]+)", makefile)[1] == next(p for p in tools if p.startswith("uv==")).partition("==")[2]


def test_every_step_that_installs_enforces_hashes_or_installs_our_own_wheel() -> None:
    commands = [part.strip() for step in STEPS if step.startswith("RUN") for part in step.split("&&")]
    installs = [command for command in commands if " install " in command]
    assert len(installs) == 3
    for command in installs:
        assert "--no-deps" in command
        assert ("--require-hashes" in command and "--only-binary :all:" in command) or "--offline" in command
    (wheel,) = [command for command in commands if "pip wheel" in command]
    assert "--no-index" in wheel and "--no-build-isolation" in wheel and "--no-deps" in wheel


def test_the_base_is_named_by_its_digest_and_the_user_by_a_number() -> None:
    stages = [step for step in STEPS if step.startswith("FROM")]
    assert [stage.split()[1] for stage in stages] == ["${BASE}", "${BASE}"]
    assert STEPS[0] == "ARG BASE", "no default: nobody here can know the digest of the day"
    assert "*@sha256:*) ;;" in DOCKERFILE
    users = [step.split()[1] for step in STEPS if step.startswith("USER")]
    assert users == ["65532:65532"]
    check = next(step for step in STEPS if step.startswith("RUN case")).removeprefix("RUN ")
    for base, code in (("python:3.11-slim", 1), ("", 1), ("python:3.11-slim@sha256:" + "0" * 64, 0)):
        done = subprocess.run(["sh", "-c", check], env={"BASE": base}, capture_output=True, text=True, check=False)
        assert (done.returncode, "BASE must name" in done.stderr) == (code, bool(code))


def test_the_sbom_is_made_by_a_library_of_what_is_installed() -> None:
    assert "cyclonedx-py environment" in DOCKERFILE
    assert "--output-file /opt/authagent/sbom.cdx.json /opt/authagent/bin/python" in DOCKERFILE


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignore[0] == "*"
    kept = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source for step in STEPS if step.startswith("COPY") and "--from" not in step for source in step.split()[1:-1]
    }
    assert kept == copied
    for secret in (".git/config", ".venv/bin/python", ".env", "tests/tokens.py", "requirements/lock.txt"):
        assert not any(fnmatch.fnmatch(secret, pattern) or secret.startswith(pattern + "/") for pattern in kept)
    assert all((ROOT / name).exists() for name in kept)
