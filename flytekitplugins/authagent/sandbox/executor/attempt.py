"""One attempt at a task: a process group of its own, in a directory of its own, and what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flyteidl.core import dynamic_job_pb2, errors_pb2, literals_pb2
from google.protobuf.message import DecodeError

from flytekitplugins.authagent.sandbox.executor.failure import reported, system_error, user_error

GRACE = 4.0
"""Seconds between asking an attempt to end and killing it: an eager one may end its children first."""

QUOTED = 2000
"""How many characters of its log are quoted when an attempt leaves nothing else."""


@dataclass(frozen=True)
class Place:
    """The directory of one attempt."""

    root: Path

    @classmethod
    def inside(cls, directory: Path, name: str) -> Place:
        """Make one, which only we can enter; `name` is for people who look into `directory`."""
        readable = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:60]
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = cls(Path(tempfile.mkdtemp(prefix=f"{readable}-", dir=directory)))
        for inner in ("home", "tmp", "code", "outputs", "raw"):
            (place.root / inner).mkdir(mode=0o700)
        return place

    @property
    def inputs(self) -> Path:
        return self.root / "inputs.pb"

    @property
    def outputs(self) -> Path:
        return self.root / "outputs"

    @property
    def raw(self) -> Path:
        return self.root / "raw"

    @property
    def checkpoint(self) -> Path:
        return self.raw / "checkpoint"

    @property
    def log(self) -> Path:
        return self.root / "log"

    @property
    def deck(self) -> str:
        """Where the deck is, if there is one."""
        deck = self.outputs / "deck.html"
        return str(deck) if deck.exists() else ""

    def tail(self) -> str:
        """The end of what the attempt printed."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - QUOTED))
            return log.read().decode(errors="replace").strip()


async def run(argv: tuple[str, ...], environment: Mapping[str, str], place: Place, timeout: float) -> int:
    """
    Run `argv` in `place` and return its exit status, negative for a signal.

    No process of its group is left when this returns or is cancelled. Raises `Failed` if it cannot be run, or
    does not end within `timeout` seconds.
    """
    with place.log.open("wb") as log:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(environment),
                cwd=place.root / "code",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise user_error(
                "BadTaskSpecification",
                f"the sandbox cannot run {argv[0]!r}: {error.strerror}. "
                f"It runs the commands of tasks on this machine, without their images",
            ) from None
    try:
        return await asyncio.wait_for(process.wait(), timeout)
    except asyncio.TimeoutError:
        message = f"the task did not end within {timeout:g} s"
        raise user_error("TimeoutExpired", message, recoverable=True) from None
    finally:
        await _end(process)


def result(
    place: Place, status: int, *, outputs_expected: bool
) -> literals_pb2.LiteralMap | dynamic_job_pb2.DynamicJobSpec:
    """
    What an attempt that ended with `status` left behind: outputs, or the nodes that a dynamic task wants run.

    Raises `Failed`: what the error document says, or a system error if there is no document at all.
    """
    try:
        if document := _read(place.outputs / "error.pb"):
            error = errors_pb2.ErrorDocument.FromString(document).error
            raise reported(error, str(place.outputs / "error.pb"))
        if document := _read(place.outputs / "futures.pb"):
            return dynamic_job_pb2.DynamicJobSpec.FromString(document)
        outputs = _read(place.outputs / "outputs.pb")
        if outputs is None and (status != 0 or outputs_expected):
            ended = f"ended with status {status}" if status >= 0 else f"was killed by signal {-status}"
            message = f"the task {ended} and left neither outputs nor an error. Its log ends:\n{place.tail()}"
            raise system_error("OutputsNotFound", message, recoverable=True)
        return literals_pb2.LiteralMap.FromString(outputs or b"")
    except DecodeError:
        raise system_error("BadOutputs", "the task left a document that is no Flyte document") from None


def _read(path: Path) -> bytes | None:
    """The content of a file, which may be empty, or `None` if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


async def _end(process: asyncio.subprocess.Process) -> None:
    try:
        if process.returncode is None:
            process.terminate()  # it alone, as kubelet asks the first process of a container and no other
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), GRACE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also those that the process itself left behind
        await process.wait()
