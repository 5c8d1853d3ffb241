"""Runs commands of `authagent` one after the other in one process, with logs of all levels and whole tracebacks."""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
import urllib.request
from urllib.parse import parse_qs, urlsplit

from flytekitplugins.authagent import cli, config, discovery, terminal
from flytekitplugins.authagent.asked import Asked
from flytekitplugins.authagent.resolve import resolve
from flytekitplugins.authagent.sources import process_wide
from flytekitplugins.authagent.terminal import Terminal


def show(error: BaseException | None) -> None:
    """All of it, with everything that it came from, whatever a traceback would leave out."""
    while error is not None:
        print(repr(error), str(error), error.args, vars(error), "".join(traceback.format_exception(error)))
        show(error.__cause__)
        error = error.__context__


def open_page(url: str) -> bool:
    """A browser that comes back at once with a code."""
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    back = f"{query['redirect_uri']}?code=4n-auth0rization-c0de-of-24&state={query['state']}"

    def come_back() -> None:
        try:
            urllib.request.urlopen(back, timeout=20).read()
        except OSError:  # the page that says that it did not succeed
            return

    threading.Thread(target=come_back).start()
    return True


def main() -> None:
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    terminal.here = lambda: Terminal(print, open_page, lambda: None)
    for arguments in json.loads(sys.argv[1]):
        process_wide.clear()
        discovery.forget()
        logging.getLogger("flytekitplugins.authagent").setLevel(logging.DEBUG)
        print(f"$ authagent {' '.join(arguments)}", flush=True)
        try:
            print("exit code", cli.main(arguments), flush=True)
        except SystemExit as end:
            print("exit code", end.code, flush=True)
    import os

    process_wide.clear()
    try:
        found = resolve(Asked(), config.load(os.environ), os.environ, timeout=10).source.get()
        print(repr(found))
    except Exception as error:
        show(error)


if __name__ == "__main__":
    main()
