"""Where a Flyte is: reading an endpoint, comparing two, and telling what is loopback."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from flytekitplugins.authagent.errors import ConfigError

_SCHEMES = {"dns:///": None, "http://": True, "https://": False}


@dataclass(frozen=True)
class Endpoint:
    """
    A Flyte control plane, as gRPC dials it.

    `target` is what gRPC takes (`host:port`, `dns:///host`, `unix:/path`); `insecure` is whether it speaks
    plaintext, `None` where the spelling does not say.
    """

    target: str
    host: str
    port: int | None
    insecure: bool | None = None

    @property
    def loopback(self) -> bool:
        """Whether a call to it cannot leave this machine."""
        if self.target.startswith("unix:") or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def same_as(self, other: Endpoint) -> bool:
        """Whether both name one server. Ports left out are the default of TLS; loopback names are one host."""
        if "unix:" in (self.target[:5], other.target[:5]):
            return self.target == other.target
        hosts = self.host == other.host or (self.loopback and other.loopback)
        return hosts and (self.port or 443) == (other.port or 443)


def parse(text: str) -> Endpoint:
    """
    Read `host`, `host:port`, `[v6]:port`, each with `dns:///`, `http://` or `https://` before it, or `unix:/path`.

    Raises `ConfigError` for anything else.
    """
    if text.startswith("unix:/"):
        return Endpoint(target=text, host="", port=None, insecure=True)
    rest, insecure = text.strip(), None
    for scheme, plaintext in _SCHEMES.items():
        if rest.lower().startswith(scheme):
            rest, insecure = rest[len(scheme) :].rstrip("/"), plaintext
            break
    host, port = _split(rest)
    if not host or any(c in host for c in "/@?# \t\r\n") or port == 0:
        shown = "an address with credentials in it" if "@" in text else repr(text)
        raise ConfigError(f"{shown} is not a Flyte endpoint", hint="write host:port or dns:///host")
    return Endpoint(target=rest, host=host.lower(), port=port, insecure=insecure)


def port(text: str) -> int | None:
    """The port that `text` spells, 1 to 65535, `None` where it spells none."""
    if not text.isascii() or not text.isdigit() or len(text) > 5:  # Python reads no number of 5000 digits
        return None
    number = int(text)
    return number if 0 < number < 65536 else None


def parse_named(text: str, name: str) -> Endpoint:
    """As `parse`, for what a person names by `name`: a variable, a key or an option."""
    try:
        return parse(text)
    except ConfigError as wrong:
        raise ConfigError(f"{name}: {wrong.args[0]}", hint=wrong.hint) from None


def contradiction(text: str, insecure: bool | None) -> str:
    """What is wrong with an endpoint whose scheme says another thing than `insecure`; empty where they agree."""
    said = parse(text).insecure
    if text.startswith("unix:") or None in (said, insecure) or said == insecure:
        return ""
    scheme, word = ("http://", "false") if said else ("https://", "true")
    return f"an endpoint with {scheme} and insecure: {word} contradict each other"


def allowed_plaintext(environ: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """What `AUTHAGENT_ALLOW_PLAINTEXT` names. Raises `ConfigError`."""
    name = "AUTHAGENT_ALLOW_PLAINTEXT"
    return tuple(parse_named(host, name) for host in environ.get(name, "").split(",") if host.strip())


def may_be_plaintext(to: Endpoint, allowed: Iterable[Endpoint]) -> bool:
    """Whether a token may go to `to` unencrypted: it stays on this machine, or the operator named it in `allowed`."""
    return to.loopback or any(to.host == other.host and other.port in (None, to.port) for other in allowed)


def _split(text: str) -> tuple[str, int | None]:
    """`host` and `port`; port 0 marks one that is not a port."""
    if text.startswith("["):
        host, _, tail = text[1:].partition("]")
        spelled = tail[1:] if tail.startswith(":") else tail
    elif text.count(":") > 1:
        host, spelled = text, ""  # a bare IPv6 address
    else:
        host, _, spelled = text.partition(":")
    return host, (port(spelled) or 0) if spelled else None
