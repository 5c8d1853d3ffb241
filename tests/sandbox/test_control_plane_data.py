"""Files into the sandbox and out of it: signed URLs, decks, and `flyte://` URLs."""

from __future__ import annotations

import base64
import hashlib
import http.client
import socket
import stat
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from flyteidl.admin import node_execution_pb2
from flyteidl.service import dataproxy_pb2 as proxy
from google.protobuf.duration_pb2 import Duration
from running_control_plane import running
from templates import DOMAIN, PROJECT, integer, literals, ran, register, script

from flytekitplugins.authagent.sandbox.control_plane.signed_urls import SignedUrls

pytestmark = pytest.mark.timeout(30)

CONTENT = b"all of it"
MD5 = hashlib.md5(CONTENT).digest()


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    with running(tmp_path_factory.mktemp("plane")) as control_plane:
        yield control_plane


@pytest.fixture
def data(plane):
    return plane.stubs().data


@pytest.fixture
def urls(tmp_path):
    """A server whose clock stands where a test puts it."""
    clock = [1000.0]
    signed = SignedUrls(tmp_path, largest=20, now=lambda: clock[0])
    signed.clock = clock
    signed.start()
    yield signed
    signed.stop()


def send(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=10)
    try:
        connection.request(method, f"{where.path}?{where.query}", body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def upload_request(**fields) -> proxy.CreateUploadLocationRequest:
    return proxy.CreateUploadLocationRequest(**({"project": PROJECT, "domain": DOMAIN, "content_md5": MD5} | fields))


def put(url: str, content: bytes = CONTENT) -> tuple[int, bytes]:
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    return send("PUT", url, content, **{"Content-MD5": md5})


def refusal(call, request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return caught.value.code().name, caught.value.details()


def test_what_is_put_can_be_read_where_the_native_url_says_and_got_again(data):
    location = data.CreateUploadLocation(upload_request(filename="script.tar.gz"))

    assert put(location.signed_url)[0] == 200

    assert Path(location.native_url).read_bytes() == CONTENT
    assert location.native_url.endswith(f"/uploads/{PROJECT}/{DOMAIN}/{base64.b32encode(MD5).decode()}/script.tar.gz")
    assert not stat.S_IMODE(Path(location.native_url).stat().st_mode) & 0o077
    down = data.CreateDownloadLocation(proxy.CreateDownloadLocationRequest(native_url=location.native_url))
    assert send("GET", down.signed_url) == (200, CONTENT)
    assert send("HEAD", down.signed_url) == (200, b"")


def test_files_of_one_root_lie_together_and_are_written_once(data):
    locations = [
        data.CreateUploadLocation(upload_request(filename=name, filename_root="together")) for name in ("a", "b")
    ]
    assert len({Path(location.native_url).parent for location in locations}) == 1
    put(locations[0].signed_url)

    same = upload_request(filename="a", filename_root="together")
    other = upload_request(filename="a", filename_root="together", content_md5=b"0" * 16)

    assert data.CreateUploadLocation(same).native_url == locations[0].native_url
    assert refusal(data.CreateUploadLocation, other)[0] == "ALREADY_EXISTS"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"project": ""}, "project and domain are required parameters"),
        ({"content_md5": b""}, "content_md5 or filename_root is a required parameter"),
        ({"filename": "../../escape"}, "'..' is no name for a file"),
        ({"filename": ".."}, "'..' is no name for a file"),
        ({"filename_root": "/etc"}, "'' is no name for a file"),
        ({"project": "..", "domain": ".."}, "'..' is no name for a file"),
        (
            {"expires_in": Duration(seconds=7200)},
            "expiresIn [2h0m0s] cannot exceed max allowed expiration [1h0m0s]",
        ),
        (
            {"expires_in": Duration(seconds=-1)},
            "expiresIn [-1s] cannot exceed max allowed expiration [1h0m0s]",
        ),
    ],
)
def test_an_upload_that_makes_no_sense_is_invalid(data, fields, message):
    assert refusal(data.CreateUploadLocation, upload_request(**fields)) == ("INVALID_ARGUMENT", message)


@pytest.mark.parametrize(
    "native_url",
    ["/etc/passwd", "file:///etc/passwd", "s3://bucket/key", "../x", "", "a\0b", "/dev/fd/../../x"],
)
def test_only_what_is_in_the_store_can_be_downloaded(data, native_url):
    request = proxy.CreateDownloadLocationRequest(native_url=native_url)

    # As with flyteadmin it is INTERNAL where the URL names no bucket at all.
    assert refusal(data.CreateDownloadLocation, request)[0] in ("INVALID_ARGUMENT", "INTERNAL")


def test_a_link_does_not_lead_out_of_the_store(plane, data):
    link = plane.directory / "link"
    link.symlink_to("/etc/passwd")

    request = proxy.CreateDownloadLocationRequest(native_url=str(link))

    assert refusal(data.CreateDownloadLocation, request)[0] == "INVALID_ARGUMENT"


def test_content_of_another_hash_is_refused_and_leaves_nothing(plane, data):
    location = data.CreateUploadLocation(upload_request(filename="refused", filename_root="refused"))
    announced = {"Content-MD5": base64.b64encode(MD5).decode()}

    assert put(location.signed_url, b"something else")[0] == 403
    assert send("PUT", location.signed_url, b"something else", **announced)[0] == 400

    assert not list((plane.directory / "uploads" / PROJECT / DOMAIN / "refused").iterdir())


def test_a_url_is_good_for_its_own_method_and_file_only(urls):
    (urls.root / "a").write_bytes(b"a")
    (urls.root / "b").write_bytes(b"b")
    signed = urls.sign("GET", urls.root / "a", 60)

    assert send("GET", signed) == (200, b"a")
    assert send("PUT", signed, b"x")[0] == 403
    assert send("GET", signed.replace("/a?", "/b?"))[0] == 403
    assert send("GET", signed.replace("/a?", "/../a?"))[0] == 403
    assert send("GET", signed.partition("?")[0])[0] == 403
    assert send("GET", signed.replace("expires=", "expires=9"))[0] == 403


def test_a_url_expires(urls):
    (urls.root / "a").write_bytes(b"a")
    signed = urls.sign("GET", urls.root / "a", 60)

    urls.clock[0] += 60

    assert send("GET", signed)[0] == 403


def test_an_upload_is_bounded_and_says_how_long_it_is(urls):
    signed = urls.sign("PUT", urls.root / "a", 60)

    assert send("PUT", signed, b"x" * 21)[0] == 413
    assert send("PUT", signed, iter([b"x"]), **{"Transfer-Encoding": "chunked"})[0] == 411
    assert send("PUT", signed, b"x" * 20)[0] == 200


def test_an_upload_that_breaks_off_leaves_nothing(urls):
    signed = urlsplit(urls.sign("PUT", urls.root / "dir" / "a", 60))
    with socket.create_connection((signed.hostname, signed.port), timeout=10) as peer:
        peer.sendall(f"PUT {signed.path}?{signed.query} HTTP/1.0\r\nContent-Length: 20\r\n\r\nhalf".encode())
        peer.shutdown(socket.SHUT_WR)
        assert b" 400 " in peer.recv(1000)

    assert not list((urls.root / "dir").iterdir())


def test_inputs_outputs_and_decks_of_a_node_can_be_had_by_flyte_url(plane, data):
    stubs = plane.stubs()
    source = (
        "from flyteidl.core import literals_pb2 as l\n"
        "one = l.Literal(scalar=l.Scalar(primitive=l.Primitive(integer=1)))\n"
        "(outputs / 'outputs.pb').write_bytes(l.LiteralMap(literals={'o': one}).SerializeToString())\n"
        "(outputs / 'deck.html').write_text('<h1>a picture</h1>')\n"
    )
    register(stubs, script("pictured", source, inputs=["n"], outputs=["o"]))
    execution = ran(stubs, "pictured", inputs=literals(n=integer(5)))
    of_execution = node_execution_pb2.NodeExecutionListRequest(workflow_execution_id=execution.id, limit=1)
    node = stubs.admin.ListNodeExecutions(of_execution).node_executions[0]
    request = node_execution_pb2.NodeExecutionGetDataRequest(id=node.id)
    links = stubs.admin.GetNodeExecutionData(request).flyte_urls

    def get(url: str) -> proxy.GetDataResponse:
        return data.GetData(proxy.GetDataRequest(flyte_url=url))

    assert get(links.inputs).literal_map == literals(n=integer(5))
    assert get(links.outputs).literal_map == literals(o=integer(1))
    assert get(f"{links.outputs}/o").literal == integer(1)
    attempt = links.outputs.replace(f"/{node.id.node_id}/", f"/{node.id.node_id}/0/")
    assert get(attempt).literal_map == literals(o=integer(1))
    assert send("GET", get(links.deck).pre_signed_urls.signed_url[0]) == (200, b"<h1>a picture</h1>")
    link = proxy.CreateDownloadLinkRequest(artifact_type=proxy.ARTIFACT_TYPE_DECK, node_execution_id=node.id)
    assert send("GET", data.CreateDownloadLink(link).signed_url[0]) == (200, b"<h1>a picture</h1>")
    assert plane.plane.executions()[-1]["deck_uris"] == [node.closure.deck_uri]
    for url, code in (
        (f"{links.outputs}/x", "NOT_FOUND"),
        (attempt.replace("/0/", "/9/"), "INVALID_ARGUMENT"),
    ):
        assert refusal(data.GetData, proxy.GetDataRequest(flyte_url=url))[0] == code


@pytest.mark.parametrize("url", ["", "flyte://v2/a", "s3://x", "flyte://v1/p/d/e/n/x", "flyte://v1/p/d/e/n/i/a/b"])
def test_a_url_that_is_none_is_invalid(data, url):
    assert refusal(data.GetData, proxy.GetDataRequest(flyte_url=url))[0] == "INVALID_ARGUMENT"
