"""Somebody else on this machine, for tests of who may ask whom and who may have written what."""

from __future__ import annotations

import contextlib
import io
import os
import pwd
import shutil
import subprocess
import sys
import traceback

from peers import SECOND_USER, need


class SecondUser:
    """Somebody who is neither us nor root: by `setuid` where we are root, by `sudo` where the image allows it."""

    def __init__(self) -> None:
        if os.geteuid() == 0:
            self.uid = 12345
        else:
            name = SECOND_USER
            need("a second user (root, or AUTHAGENT_SECOND_USER with sudo)", name and shutil.which("sudo"))
            self.name = name
            self.uid = pwd.getpwnam(name).pw_uid

    def run(self, program: str) -> str:
        """What `program` prints when this user runs it."""
        if os.geteuid() == 0:
            return self._forked(program)
        command = ["sudo", "-n", "-u", self.name, sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def _forked(self, program: str) -> str:
        """Without a new interpreter, whose files this user might not be able to read."""
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            printed = io.StringIO()
            try:
                os.setgroups([])
                os.setresgid(self.uid, self.uid, self.uid)
                os.setresuid(self.uid, self.uid, self.uid)
                with contextlib.redirect_stdout(printed):
                    exec(program, {})
            except BaseException:
                printed.write(traceback.format_exc())
            finally:
                os.write(writing, printed.getvalue().encode())
                os._exit(0)
        os.close(writing)
        with open(reading) as pipe:  # noqa: PTH123 - a descriptor has no Path
            said = pipe.read()
        os.waitpid(pid, 0)
        return said
