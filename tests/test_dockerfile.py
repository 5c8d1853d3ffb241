"""The lines of Dockerfile.test work, without a container engine: in a scratch copy of this machine's own system."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import machine
import pytest
from peers import SECOND_USER, need

PROJECT = Path(__file__).parent.parent

# An overlay over the whole system, in a mount namespace of its own: what happens there is gone afterwards.
SCRATCH = """
set -eu
mount -t tmpfs -o size=8g tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
for kernel in proc dev sys; do mount --rbind "/$kernel" "$1/root/$kernel"; done
mount -t tmpfs tmpfs "$1/root/tmp"
chmod 1777 "$1/root/tmp"
chmod o+x "$1/root$3"      # an interpreter may live in the home of root, whom the image's user is not
"""

# What `make peers` has made here is not made again: that takes most of the time, and whoever has it has seen it made.
PEERS = 'if [ -d "$4" ]; then cp -rH --preserve=mode,timestamps,links "$4" "$1/root/project/.peers"; fi'


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile and its argument."""
    text = (PROJECT / "Dockerfile.test").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def steps(tests: str) -> list[str]:
    """What a builder and a runner would do, as commands in the scratch copy; `tests` are those that CMD runs."""
    user, directory, environment = (
        "root",
        "/",
        [f"PYTHON={Path(sys.base_prefix, 'bin', 'python3.11')}", f"TESTS={tests}"],
    )
    commands = []
    for instruction, argument in instructions():
        match instruction:
            case "RUN":
                commands.append(f'chroot "$1/root" sh -c {shlex.quote(f"cd {directory} && {argument}")}')
            case "COPY":
                commands.append(
                    'mkdir -p "$1/root/project" && tar -C "$2" -cf - -T "$2/.files" | tar -C "$1/root/project" -xf -'
                )
                commands.append(PEERS)
                commands.append('chroot "$1/root" chown -R tester:tester /project')
            case "WORKDIR":
                directory = argument
            case "USER":
                user = argument
            case "ENV":
                environment += argument.split()
            case "CMD":
                inside = f"cd {directory} && export HOME=/home/{user} {' '.join(environment)} && {argument}"
                commands.append(f'chroot --userspec={user}:{user} "$1/root" sh -c {shlex.quote(inside)}')
            case "FROM":
                assert argument.startswith("python:3.11")
            case _:
                raise AssertionError(f"this test does not know {instruction}")
    return commands


@pytest.mark.peer
@pytest.mark.timeout(600)
def test_run_and_cmd_lines_work_in_a_scratch_copy(tmp_path: Path) -> None:
    if SECOND_USER:
        pytest.skip("this is that image already")
    need("root, who can mount", os.geteuid() == 0 and shutil.which("unshare") and shutil.which("chroot"))
    need("Debian's package manager", shutil.which("apt-get"))
    files = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in files.splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, copy / name, follow_symlinks=False)
    (copy / ".files").write_text(files)
    mounted = tmp_path / "scratch"
    mounted.mkdir()
    script = SCRATCH + "\n".join(steps("tests/agent/test_second_user.py"))
    directories = [mounted, copy, Path(sys.base_prefix).parents[2], PROJECT / ".peers"]

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *directories],
        env=machine.FOUND,  # packages are installed
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
