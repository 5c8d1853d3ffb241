"""
nginx before a gRPC backend: every call is allowed by a subrequest to an HTTP endpoint that reads `flyte-authorization`.

That is how a proxy with authentication stands before Flyte's control plane. It listens for HTTP/2 without TLS.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peer_process import PeerProcess, program, running

from flytekitplugins.authagent.sandbox.port import free_port

METADATA_SERVICE = "/flyteidl.service.AuthMetadataService/"
"""Open to everybody: it says where tokens come from."""


@dataclass
class Nginx:
    """A running nginx; `target` is `127.0.0.1:PORT` for gRPC."""

    target: str
    process: PeerProcess


@contextlib.contextmanager
def nginx(
    directory: Path,
    *,
    backend: str,
    me: str,
    large_headers: bool = True,
    cache_seconds: int = 0,
    sign_in: str = "",
) -> Iterator[Nginx]:
    """
    An nginx of its own, which has `directory` for its files.

    `backend`: `HOST:PORT` of the gRPC server, without TLS; it gets `x-user-subject` as `me` answers it, never as the
    client says. `me`: the URL whose status decides: 2xx, 401, 403; others are 500.
    `large_headers`: take tokens over 8 kB; without it they end the whole connection.
    `cache_seconds`: how long what `me` answered to a token, yes or no, is believed; 0 asks at every call.
    `sign_in`: where callers without a token are redirected to, as a proxy for browsers does; empty answers 401.
    """
    port = free_port()
    for name in ("temporary", "cache"):
        (directory / name).mkdir()
    file = directory / "nginx.conf"
    file.write_text(
        _configuration(port, backend, me, large_headers=large_headers, cache_seconds=cache_seconds, sign_in=sign_in)
    )
    command = [program("nginx", "nginx-light"), "-p", directory, "-c", file, "-e", "stderr"]
    with running(command, directory) as process:
        process.until(process.listens(port), seconds=10)
        yield Nginx(f"127.0.0.1:{port}", process)


def _configuration(port: int, backend: str, me: str, *, large_headers: bool, cache_seconds: int, sign_in: str) -> str:
    # Workers that are not root could not go into a directory that is root's.
    user = "user root;" if os.geteuid() == 0 else ""
    buffers = "large_client_header_buffers 4 64k;" if large_headers else ""
    cache, cached = "", ""
    if cache_seconds:
        cache = "proxy_cache_path cache keys_zone=answers:1m;"
        cached = f"""
            proxy_cache answers;
            proxy_cache_key $http_flyte_authorization;
            proxy_cache_valid 200 202 204 401 {cache_seconds}s;
            proxy_ignore_headers Cache-Control Expires Set-Cookie;"""
    redirected = f"error_page 401 = @sign_in; location @sign_in {{ return 302 {sign_in}; }}" if sign_in else ""
    temporary = "\n        ".join(
        f"{kind}_temp_path temporary/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
    {user}
    daemon off;
    worker_processes 1;
    pid nginx.pid;
    error_log stderr warn;
    events {{ worker_connections 256; }}
    http {{
        access_log off;
        {temporary}
        {cache}
        server {{
            listen 127.0.0.1:{port} http2;
            {buffers}
            location {METADATA_SERVICE} {{ grpc_pass grpc://{backend}; }}
            location / {{
                auth_request /.me;
                auth_request_set $subject $upstream_http_x_user_subject;
                grpc_set_header x-user-subject $subject;
                grpc_pass grpc://{backend};
            }}
            location = /.me {{
                internal;
                proxy_pass {me};
                proxy_pass_request_body off;
                proxy_set_header Content-Length "";
                proxy_buffer_size 64k;
                proxy_buffers 4 64k;
                {cached}
            }}
            {redirected}
        }}
    }}
    """
