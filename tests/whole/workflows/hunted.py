"""A task that shows everything it has in every place where somebody could look, and one that plants a secret there."""

import base64
import html
import json
import logging
import os
import subprocess
import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import cloudpickle
import flytekit
from flytekit import Deck, task

from flytekitplugins.authagent import AuthAgent, TokenRequest, remote
from flytekitplugins.authagent.sources import process_wide

logging.getLogger().setLevel(logging.DEBUG)
logging.getLogger().addHandler(logging.StreamHandler())
SHOW_ENVIRONMENT = "import json, os, sys; print(json.dumps(dict(os.environ)), sys.argv)"


def reprs() -> str:
    """Everything of ours, and of flytekit's, that can be shown."""
    context = flytekit.current_context()
    flyte = context.remote
    shown = [
        context,
        flyte,
        flyte.config,
        flyte.config.platform,
        flyte.config.platform.resolution,
        flyte.client._cfg,
        vars(context._handle),
        context.tokens,
        remote.default(),
        list(process_wide._sources._kept.items()),
        [vars(source) for source, _ in process_wide._sources._kept.values()],
        context._handle.config,
    ]
    return "\n".join(f"{value!r} {value!s}" for value in shown)


@task(task_config=AuthAgent(tokens={"flyte": TokenRequest()}, run_as=None), enable_deck=True)
def shows() -> tuple[str, str, str]:
    flyte = flytekit.current_context().remote
    flyte.list_projects()
    assert flytekit.current_context().tokens["flyte"]
    logging.debug("everything: %s", reprs())
    Deck("everything", f"<pre>{html.escape(reprs())}</pre>")
    try:
        flyte.fetch_execution(name="there-is-none")
    except Exception:
        caught = traceback.format_exc()
    child = subprocess.run([sys.executable, "-c", SHOW_ENVIRONMENT], capture_output=True, text=True, check=True).stdout
    child += Path("/proc/self/environ").read_text() + Path("/proc/self/cmdline").read_text()
    pickled = base64.b64encode(
        cloudpickle.dumps([shows, shows.task_function, flytekit.current_context()._handle.config])
    )
    return reprs() + caught, child, pickled.decode()


@task(task_config=AuthAgent())
def fails() -> None:
    secret_in_a_local = flytekit.current_context().remote.client
    raise ValueError(f"on purpose: {secret_in_a_local!r} {reprs()}")


@task(enable_deck=True)
def plants(secret: str) -> tuple[str, str, str]:
    text = "\n".join(
        [
            secret,
            base64.b64encode(("x" + secret + "y").encode()).decode(),
            quote(secret),
            json.dumps(secret),
            html.escape(secret),
        ]
    )
    logging.debug("planted %s", text)
    Deck("planted", text)
    child = subprocess.run(
        [sys.executable, "-c", SHOW_ENVIRONMENT, secret],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PLANTED": text},
    ).stdout
    return repr(text) + text, child + text, base64.b64encode(cloudpickle.dumps(text)).decode() + text


@task
def plants_in_an_error(secret: str) -> None:
    raise ValueError(
        "\n".join(
            [secret, base64.b64encode(secret.encode()).decode(), quote(secret), json.dumps(secret), html.escape(secret)]
        )
    )
