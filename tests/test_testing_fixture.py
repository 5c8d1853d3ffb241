"""The fixtures for users' own tests, used by pytest as users use them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flytekit.remote import FlyteRemote

from flytekitplugins.authagent import testing

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parent.parent
PAGE = (PROJECT / "docs" / "testing.md").read_text()
CONFTEST = 'pytest_plugins = ["flytekitplugins.authagent.testing"]'


@pytest.fixture
def tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project of a user's, with our fixtures. Its processes do not see this package's own test settings."""
    pytester.makeconftest(CONFTEST)
    bin = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    return pytester


def run(tests: pytest.Pytester, *arguments: str, timeout: float = 90) -> pytest.RunResult:
    """`pytest` in a process of its own."""
    return tests.runpytest_subprocess("-q", "-p", "no:cacheprovider", *arguments, timeout=timeout)


KINDS = """
import asyncio, functools, multiprocessing, threading
import flytekit, pytest
from flytekit import dynamic, map_task, task, workflow
from flytekit.remote import FlyteRemote
from flytekitplugins.authagent import AuthAgent, TokenRequest, authenticated, eager, remote

HELD = remote.default()

def count():
    return len(flytekit.current_context().remote.list_projects())

@task(task_config=AuthAgent(prefetch=True))
def plain(x: int) -> int:
    return count()

@task(task_config=AuthAgent("client_credentials", endpoint="flyte.example.com"), enable_deck=True)
async def asynchronous(x: int) -> int:
    return count()

@task
@authenticated
def below(x: int) -> int:
    return count()

@dynamic(task_config=AuthAgent())
def dynamically(x: int) -> int:
    count()
    return plain(x=x)

@workflow
def mapped() -> list[int]:
    return map_task(plain)(x=[1, 2])

@eager
async def eagerly(x: int) -> int:
    return count() + await asynchronous(x=x)

@task
def undeclared() -> int:
    found = []
    thread = threading.Thread(target=lambda: found.append(len(HELD.list_projects())))
    thread.start()
    thread.join()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return found[0] + pool.apply(forked)

def forked():
    return len(remote.default().list_projects())

@pytest.mark.parametrize("run, total", [
    (lambda: plain(x=1), 2),
    (lambda: asyncio.run(asynchronous(x=1)), 2),
    (lambda: below(x=1), 2),
    (lambda: dynamically(x=1), 2),
    (lambda: sum(mapped()), 4),
    (lambda: asyncio.run(eagerly(x=1)), 4),
    (lambda: undeclared(), 4),
])
def test_every_kind(run, total, fake_remote):
    fake_remote.list_projects.return_value = ["a", "b"]
    assert run() == total

@authenticated
def context():
    seen = flytekit.current_context()
    return seen.remote, seen.identity
"""


def test_the_fake_is_the_remote_of_every_kind_of_task(tests: pytest.Pytester) -> None:
    tests.makepyfile(KINDS)
    run(tests).assert_outcomes(passed=7)


def test_it_takes_what_a_flyte_remote_takes_and_nothing_else(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        KINDS
        + """
def test_it_is_one(fake_remote):
    assert isinstance(fake_remote, FlyteRemote) and isinstance(remote.default(), FlyteRemote)
    assert context()[0] is fake_remote

@pytest.mark.parametrize("wrong", [
    lambda fake: fake.fetch_execushun,
    lambda fake: setattr(fake, "fetch_execushun", 1),
    lambda fake: fake.client.get_execushun,
    lambda fake: fake.file_access.nothing,
    lambda fake: remote.default().nothing,
])
def test_unknown_attributes_fail(wrong, fake_remote):
    with pytest.raises(AttributeError):
        wrong(fake_remote)

@pytest.mark.parametrize("wrong", [
    lambda fake: fake.fetch_execution(nombre="x"),
    lambda fake: fake.fetch_execution("p", "d", "n", "too many"),
    lambda fake: fake.client.get_execution(),
    lambda fake: remote.default().wait(),
])
def test_wrong_arguments_fail(wrong, fake_remote):
    with pytest.raises(TypeError):
        wrong(fake_remote)

def test_its_plain_properties_are_plain(fake_remote):
    assert (fake_remote.default_project, fake_remote.default_domain) == ("flytesnacks", "development")
    assert fake_remote.interactive_mode_enabled is False
    assert fake_remote.config.platform.endpoint == "flyte.invalid"
"""
    )
    run(tests, "-k", "not every_kind").assert_outcomes(passed=11, deselected=7)


def test_every_property_of_a_flyte_remote_is_thought_of() -> None:
    """A property left to the mock would have attributes that nothing checks."""
    fake = testing._fake()
    for name, value in vars(FlyteRemote).items():
        if isinstance(value, property):
            found = getattr(fake, name)
            assert not hasattr(found, "fget"), f"{name} is a mock of the property itself"


def test_identity_and_tokens_are_what_the_test_says(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        KINDS
        + """
from flytekitplugins.authagent import ConfigError
from flytekitplugins.authagent.identity import Fact, Identity, current

ADA = Identity(subject=Fact("ada", "control_plane"))

def test_identity(fake_remote):
    assert context()[1] == Identity()
    fake_remote.identity = ADA
    assert context()[1] == ADA == current()

@authenticated(AuthAgent(tokens={"lake": TokenRequest()}))
def token(name):
    return flytekit.current_context().tokens[name]

def test_tokens(fake_remote):
    with pytest.raises(ConfigError, match=r'fake_remote has no token .lake.*fake_remote.tokens'):
        token("lake")
    fake_remote.tokens["lake"] = "t"
    assert token("lake") == "t"
    fake_remote.tokens["other"] = "t"
    with pytest.raises(ConfigError, match="no token 'other' is declared"):
        token("other")

def test_nothing_is_left_for_the_next_test(fake_remote):
    assert fake_remote.tokens == {} and fake_remote.identity == Identity() == context()[1]
    assert not fake_remote.list_projects.called
"""
    )
    run(tests, "-k", "not every_kind").assert_outcomes(passed=3, deselected=7)


def test_nobody_is_asked_for_a_credential_and_no_socket_is_opened(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
import os, socket
import pytest
from flytekit.configuration import Config
from flytekit.remote import FlyteRemote
from flytekitplugins.authagent import AuthAgent, ConfigError, authenticated, remote
from flytekitplugins.authagent.sources import process_wide

def test_it(fake_remote, monkeypatch, tmp_path):
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("a-real-token")
    monkeypatch.setenv("AUTHAGENT_TOKEN_FILE", str(token))
    monkeypatch.setenv("FLYTE_PLATFORM_URL", "127.0.0.1:1")
    monkeypatch.setenv("FLYTE_PLATFORM_INSECURE", "1")
    monkeypatch.setenv("FLYTE_CREDENTIALS_AUTH_MODE", "authagent")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a socket was opened"))
    with pytest.raises(Exception) as refused:
        FlyteRemote(Config.auto()).list_projects()
    assert isinstance(refused.value.__cause__, ConfigError)
    assert "this test has fake_remote" in str(refused.value.__cause__)
    assert "a-real-token" not in str(refused.value.__cause__)
    assert remote.default().list_projects()
    assert len(process_wide) == 0
"""
    )
    run(tests).assert_outcomes(passed=1)


def test_outside_such_a_test_everything_is_as_it_was(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
import pytest
from flytekitplugins.authagent import NoCredential, authenticated, remote
from flytekitplugins.authagent import remote as remotes
from flytekitplugins.authagent.handle import Handle
from flytekitplugins.authagent.source import Source

BEFORE = (dict(vars(Handle)), dict(vars(Source)))

def test_one(fake_remote, monkeypatch):
    monkeypatch.undo()
    assert remote.default().default_project == "flytesnacks"
    raise ZeroDivisionError

def test_two():
    assert (dict(vars(Handle)), dict(vars(Source))) == BEFORE
    assert remotes._process is None
    with pytest.raises(NoCredential):
        remote.default().list_projects()
"""
    )
    run(tests).assert_outcomes(passed=1, failed=1)


def test_the_fake_is_the_remote_of_automatic_binding_too(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTHAGENT_AUTO", "1")
    tests.makepyfile(
        """
import flytekit
from flytekit import task

@task
def plain() -> int:
    return len(flytekit.current_context().remote.list_projects())

def test_it(fake_remote):
    fake_remote.list_projects.return_value = ["a"]
    assert plain() == 1
"""
    )
    run(tests).assert_outcomes(passed=1)


def test_workers_of_xdist_do_not_disturb_each_other(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
import time
import pytest
from flytekitplugins.authagent import remote

@pytest.mark.parametrize("n", range(40))
def test_it(n, fake_remote):
    fake_remote.list_projects.return_value = [n]
    time.sleep(0.005)
    assert remote.default().list_projects() == [n]
    fake_remote.list_projects.assert_called_once_with()
"""
    )
    run(tests, "-n2", "-p", "xdist").assert_outcomes(passed=40)


def test_without_pytest_the_module_says_so_and_the_package_works(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["pytest"] = None
from flytekitplugins.authagent import AuthAgent, ConfigError, authenticated, eager, remote
try:
    import flytekitplugins.authagent.testing
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == (
        "flytekitplugins.authagent.testing needs pytest, which is not installed (hint: pip install pytest)\n"
    )


def test_nothing_else_imports_pytest() -> None:
    program = """
import sys, flytekitplugins.authagent.eager_workflow, flytekitplugins.authagent.identity
print("pytest" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_the_page_about_testing_is_so(tests: pytest.Pytester) -> None:
    """Its files, as they stand there; the last of them against a sandbox of its own."""
    files = re.findall(r"^<!-- (\S+\.py) -->\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["conftest.py", "nightly.py", "test_nightly.py", "test_in_flyte.py"]
    for name, text in files:
        (tests.path / name).write_text(text)

    run(tests, timeout=150).assert_outcomes(passed=6)


@pytest.mark.timeout(120)
def test_a_sandbox_serves_all_tests_and_ends_with_them_however_they_end(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
import os, signal
from pathlib import Path
import flytekit, pytest
from flytekit.remote import FlyteRemote
from flytekitplugins.authagent import authenticated, remote

@authenticated
def look():
    return flytekit.current_context().identity, len(flytekit.current_context().remote.list_projects())

def environment():
    return {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}

BEFORE = environment()

def test_alice_calls_it(sandbox_remote, flyte_sandbox):
    assert isinstance(sandbox_remote, FlyteRemote)
    assert sandbox_remote.default_project == "flytesnacks"
    assert remote.default().list_projects()
    identity, projects = look()
    assert (str(identity.subject), identity.subject.source, projects) == ("alice", "control_plane", 1)
    assert os.environ["FLYTE_PLATFORM_URL"] == flyte_sandbox["flyte_endpoint"]

def test_the_environment_is_back():
    assert environment() == BEFORE

def test_a_fake_beside_it(fake_remote, flyte_sandbox):
    assert remote.default().list_projects is fake_remote.list_projects
    Path("sandbox").write_text(flyte_sandbox["flyte_endpoint"])

def test_it_is_the_same_sandbox(sandbox_remote, flyte_sandbox):
    assert flyte_sandbox["flyte_endpoint"] == Path("sandbox").read_text()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    done = run(tests)

    assert done.ret == -9
    done.stdout.fnmatch_lines(["...*"])
    port = int((tests.path / "sandbox").read_text().rpartition(":")[2])
    deadline = time.monotonic() + 30
    while listening(port):
        assert time.monotonic() < deadline, "the sandbox outlives the tests"
        time.sleep(0.1)


def listening(port: int) -> bool:
    """Whether somebody answers there; reading /proc is no connection to count."""
    wanted = f"0100007F:{port:04X}"
    return any(wanted in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines())


def test_without_its_extra_the_sandbox_says_so(tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tests.mkdir("blocked")
    (blocked / "sitecustomize.py").write_text("import sys; sys.modules['joserfc'] = None")  # as if it were not there
    monkeypatch.setenv("PYTHONPATH", str(blocked))
    tests.makepyfile("def test_it(sandbox_remote): pass")

    done = run(tests)

    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*ConfigError: sandbox_remote needs joserfc*flytekitplugins-authagent?sandbox?*"])


def test_the_example_for_users_passes() -> None:
    """By the command that stands in it, without this project's own settings of pytest."""
    example = PROJECT / "examples" / "test_who_launched_me.py"
    command = re.search(r"python (-m pytest .*)", example.read_text()).group(1).split()
    plain = ["-c", os.devnull, "--rootdir", PROJECT, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *command, *plain], cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
