"""Files that can be trusted, on a real file system."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from second_user import SecondUser

from flytekitplugins.authagent import trust
from flytekitplugins.authagent.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "inner" / "file"
    path.parent.mkdir(mode=0o755)
    path.write_text("content")
    path.chmod(0o600)
    return path


def read(path: Path, *, secret: bool = True) -> bytes:
    return trust.read(path, secret=secret, limit=100)


def test_a_file_of_ours_is_read(file: Path) -> None:
    assert read(file) == b"content"


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_one_that_others_may_write_is_refused(file: Path, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_is_only_us", lambda _: False)  # as it is with root, and see test_trust_in_containers
    file.chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others"):
        read(file, secret=False)


def test_one_that_others_may_read_is_refused_only_if_it_is_secret(file: Path) -> None:
    file.chmod(0o644)
    assert read(file, secret=False) == b"content"
    with pytest.raises(ConfigError, match="can be read by others"):
        read(file)


def test_a_directory_that_others_may_write_is_refused_unless_it_is_sticky(file: Path) -> None:
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="is a directory that others can write"):
        read(file)
    file.parent.chmod(0o1777)
    assert read(file) == b"content"


def test_links_are_followed_as_kubernetes_volumes_need_it(file: Path, tmp_path: Path) -> None:
    (tmp_path / "..data").symlink_to("inner")
    (tmp_path / "token").symlink_to("..data/file")
    assert read(tmp_path / "token") == b"content"


def test_a_link_through_a_loose_directory_is_refused(file: Path, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    (loose / "link").symlink_to(file)
    loose.chmod(0o777)
    with pytest.raises(ConfigError, match="others can write"):
        read(loose / "link")


def test_links_that_lead_nowhere_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(ConfigError, match="symbolic links"):
        read(tmp_path / "a")


def test_what_is_no_file_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
    for path in (tmp_path / "pipe", tmp_path / "s", tmp_path, Path("/dev/zero"), Path("/")):
        with pytest.raises(ConfigError, match="is not a regular file"):
            read(path)


@pytest.mark.parametrize(
    ("name", "raises"),
    [
        ("file/below", FileNotFoundError),
        ("a\0b", ConfigError),
        ("a" * 300, ConfigError),
        ("/proc/self/mem", ConfigError),
    ],
    ids=["below a file", "a NUL", "a name that is too long", "one that cannot be read"],
)
def test_whatever_the_system_raises_is_one_of_two(file: Path, name: str, raises: type[Exception]) -> None:
    with pytest.raises(raises):
        read(file.parent / name, secret=False)


def test_a_file_is_bounded(file: Path) -> None:
    file.write_bytes(b"x" * 101)
    with pytest.raises(ConfigError, match="larger than 100 bytes"):
        read(file)


THEIRS = """
import os
os.mkdir({directory!r} + "/theirs", 0o755)
for path in ({directory!r} + "/file", {directory!r} + "/theirs/file"):
    with open(path, "w") as file:
        file.write("content")
    os.chmod(path, 0o644)
"""


@pytest.mark.peer
def test_what_belongs_to_somebody_else_is_refused() -> None:
    second = SecondUser()
    with tempfile.TemporaryDirectory(prefix="aa-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o1777)
        second.run(THEIRS.format(directory=directory))

        for path, owned in (("file", "file"), ("theirs/file", "theirs")):
            with pytest.raises(ConfigError, match=f"{owned} belongs to uid {second.uid}"):
                read(Path(directory, path), secret=False)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none")
