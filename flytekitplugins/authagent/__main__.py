"""`python -m flytekitplugins.authagent`, the same as `authagent`."""

import os
import sys

if __name__ == "__main__":
    # `-m` puts the working directory first, and a file there must not stand in for a library.
    if not sys.path[0] or sys.path[0] == os.getcwd():  # noqa: PTH109 - pathlib costs start-up
        del sys.path[0]
    from flytekitplugins.authagent.cli import main

    sys.exit(main())
