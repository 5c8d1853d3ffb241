"""`python -m flytekitplugins.authagent`, the same as `authagent`."""

import sys

from flytekitplugins.authagent.cli import main

if __name__ == "__main__":
    sys.exit(main())
