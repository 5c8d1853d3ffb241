"""The HTTP proxy that the environment names, and whether it can be used."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from flytekitplugins.authagent.errors import ConfigError

_SOCKS = ("socks4", "socks4a", "socks5", "socks5h")

_GRPC_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""The ones that gRPC reads, in this order. It reads none in upper case."""


def from_environment(url: str) -> tuple[str, str] | None:
    """
    The proxy for `url` and the variable that names it; `None` where it is reached directly.

    Raises `ConfigError` naming the variable for a proxy that cannot be used.
    """
    import requests.utils

    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return None
    names = [f"{kind}_proxy" for kind in (urlsplit(url).scheme, "all")]
    spellings = [spelling for name in names for spelling in (name, name.upper())]
    variable = next((name for name in spellings if os.environ.get(name) == proxy), "the environment")
    check(proxy, variable)
    return (proxy if "://" in proxy else f"http://{proxy}"), variable  # requests takes `squid:3128` for a scheme


def check_for_grpc(target: str, environ: Mapping[str, str]) -> str | None:
    """
    The variable that names the proxy which gRPC uses on the way to `target`, `None` where it uses none.

    Raises `ConfigError` for one that cannot be used: gRPC would connect past it without a word.
    """
    import requests.utils

    variable = next((name for name in _GRPC_VARIABLES if environ.get(name)), None)
    if variable is None or target.startswith("unix:"):
        return None
    excepted = environ.get("no_grpc_proxy") or environ.get("no_proxy")
    if requests.utils.should_bypass_proxies(f"http://{target.removeprefix('dns:///')}", no_proxy=excepted):
        return None
    check(environ[variable], variable)
    return variable


def check(proxy: str, source: str) -> None:
    """Refuse a proxy that cannot be used; `source` names it. Raises `ConfigError`, which never quotes its URL."""
    scheme, found, _ = proxy.partition("://")
    scheme = scheme.lower() if found else "http"
    hint = "write it like http://proxy.example.com:3128"
    if scheme in _SOCKS:
        if importlib.util.find_spec("socks") is None:
            raise ConfigError(f"{source} names a SOCKS proxy, which needs PySocks", hint="pip install PySocks")
    elif scheme not in ("http", "https"):
        shown = f" {scheme!r}" if scheme.isalnum() and len(scheme) <= 16 else ""
        raise ConfigError(f"{source} names a proxy with the scheme{shown}, which cannot be used", hint=hint)
    try:
        parts = urlsplit(proxy if found else f"http://{proxy}")
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{source} names a proxy without a usable host and port", hint=hint)
