"""The certificate authorities that TLS clients trust: where they are, and whether they can be used."""

from __future__ import annotations

import functools
import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from flytekitplugins.authagent.errors import ConfigError

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")
"""The first that is set counts. requests takes a directory in the second and the third, too."""

GRPC_VARIABLE = "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"

_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
"""How OpenSSL looks for a certificate in a directory."""


def from_environment(environ: Mapping[str, str]) -> Path | None:
    """
    The bundle that a variable names, `None` where none does.

    Raises `ConfigError` naming the variable where that file or directory cannot be used.
    """
    name = next((name for name in VARIABLES if environ.get(name)), None)
    if name is None:
        return None
    text = environ[name]
    if name == "SSL_CERT_DIR" and os.pathsep in text:
        raise ConfigError(f"{name} names several directories", hint="name one, or one file in SSL_CERT_FILE")
    if name != "SSL_CERT_FILE" and Path(text).is_dir():
        _check_directory(Path(text), name)
    else:
        check_file(Path(text), f"{name} names {text}, which", directory=name == "SSL_CERT_DIR")
    return Path(text)


def check_for_grpc(environ: Mapping[str, str]) -> None:
    """Refuse the roots that gRPC's own variable names, where they cannot be used. Raises `ConfigError` naming it."""
    if text := environ.get(GRPC_VARIABLE):
        check_file(Path(text), f"{GRPC_VARIABLE} names {text}, which")


def check_file(path: Path, subject: str = "", *, directory: bool = False) -> None:
    """
    Refuse a file from which no certificate can be read. `subject` begins the message: the variable, or the file.

    Raises `ConfigError`. `directory`: a directory was expected, so any file is wrong.
    """
    subject = subject or f"the CA file {path}"
    hint = "name a file that holds the certificates of CAs, as PEM"
    try:
        facts = path.stat()
        if directory:
            raise ConfigError(f"{subject} is not a directory", hint="name a directory, or use SSL_CERT_FILE")
        problem = _problem(path, facts.st_mtime_ns, facts.st_size, facts.st_ino)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{subject} is not there", hint=hint) from None
    except IsADirectoryError:
        raise ConfigError(f"{subject} is a directory", hint=hint) from None
    except (OSError, ValueError) as failed:
        reason = getattr(failed, "strerror", None) or "it is no path"
        raise ConfigError(f"{subject} cannot be read by uid {os.geteuid()}: {reason}", hint=hint) from None
    if problem:
        raise ConfigError(f"{subject} {problem}", hint=hint)


@functools.lru_cache(maxsize=16)
def _problem(path: Path, modified: int, size: int, inode: int) -> str:
    """Why the file, which is known by the last three, cannot be used. To parse all roots takes 20 ms."""
    with path.open("rb") as file:  # for the reason: `ssl` does not tell one that is unreadable from one that is empty
        if not file.read(1):
            return "is empty"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return "holds no certificate in PEM form"
    return ""


def _check_directory(path: Path, name: str) -> None:
    try:
        usable = any(_HASHED.fullmatch(each) for each in os.listdir(path))  # noqa: PTH208 - names are enough
    except OSError as failed:
        raise ConfigError(f"{name} names {path}, which cannot be read: {failed.strerror}") from None
    if not usable:
        raise ConfigError(
            f"{name} names {path}, which holds no certificates under the names that OpenSSL looks for",
            hint=f"run `openssl rehash {path}`, or name a file in SSL_CERT_FILE",
        )
