"""A task that was written in a notebook travels as a pickle, without a credential in it, and runs in Flyte."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloudpickle
import flytekit
from flyte_place import DOMAIN, OBSERVER, PROJECT, Observer, Place, phase, use
from flytekit import task
from flytekit.configuration import Config, PlatformConfig
from flytekit.core.base_task import PythonTask
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent import AuthAgent, authenticated
from flytekitplugins.authagent import remote as remotes

DEFAULT = remotes.default()


def test_a_pickled_task_runs_in_flyte_and_holds_no_credential(place: Place, tmp_path: Path) -> None:
    use(place.client())

    def written() -> PythonTask:
        @task(task_config=AuthAgent())
        def from_a_notebook(x: int) -> str:
            return f"{len(flytekit.current_context().remote.list_projects())} {len(DEFAULT.list_projects())}"

        return from_a_notebook

    # flytekit names a task by the outermost frame that made it, and under xdist that is none of ours.
    with ThreadPoolExecutor(1) as pool:
        from_a_notebook = pool.submit(written).result()

    @authenticated
    def has_used_it() -> str:
        return str(len(flytekit.current_context().remote.list_projects()))

    assert has_used_it()  # this process holds the credential now
    token = place.token_file.read_text().encode()
    pickled = cloudpickle.dumps(from_a_notebook)
    assert token not in pickled
    assert token[:60] not in gzip.decompress(gzip.compress(pickled))

    Observer.token = place.observer
    platform = PlatformConfig(endpoint=place.plane.endpoint, insecure=True, auth_mode=OBSERVER)
    notebook = FlyteRemote(
        Config(platform=platform), default_project=PROJECT, default_domain=DOMAIN, interactive_mode_enabled=True
    )
    place.counts.reset()
    ended = place.ended(notebook.execute(from_a_notebook, inputs={"x": 1}, version="notebook"))

    assert (phase(ended), ended.error and ended.error.message) == ("SUCCEEDED", None)
    assert ended.outputs["o0"] == "1 1"
    assert place.calls("batch")["ListProjects"] == {"accepted": 2, "rejected": 0}
    assert place.rejected() == 0
