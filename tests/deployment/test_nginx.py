"""The shipped nginx in front of the ingress: the contract of `/webhooks` holds through it; nothing else is there."""

import contextlib
import http.client
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.processes import Process
from tests.ingress.conftest import KEY_ID, SECRET, event_body, program, signature_of
from tests.servers.nginx_server import PROGRAM, SHIPPED, NginxServer, arguments, self_signed, trusting
from tests.servers.ports import free_port
from worker.database import migrate

MOST_BYTES = 256 * 1024
Header = tuple[str, str]


@dataclass
class Front:
    """nginx, and the one ingress behind both of its addresses."""

    nginx: NginxServer
    ingress: Process

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.nginx.port, timeout=10, context=trusting())

    def ask(
        self, method: str, path: str, body: bytes | Iterator[bytes] | None = None, headers: list[Header] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer."""
        connection = self.connect()
        connection.putrequest(method, path)
        for name, value in headers or []:
            connection.putheader(name, value)
        chunked = body is not None and not isinstance(body, bytes)
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
        elif body is not None:
            connection.putheader("Content-Length", str(len(body)))  # type: ignore[arg-type]
        with contextlib.suppress(OSError):  # refused before all of it was sent: the answer is there
            connection.endheaders(body, encode_chunked=chunked)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    def post(self, body: bytes, *more: Header) -> int:
        return self.ask("POST", "/webhooks", body, [*signed(body), *more])[0]


def signed(body: bytes) -> list[Header]:
    return [("X-GCS-KeyId", KEY_ID), ("X-GCS-Signature", signature_of(body)), ("Content-Type", "application/json")]


def padded(length: int) -> bytes:
    """A genuine event of exactly this length."""
    body = event_body(filler="")
    return body.replace(b'"filler":""', b'"filler":"' + b"x" * (length - len(body)) + b'"')


def pieces(body: bytes) -> Iterator[bytes]:
    for begin in range(0, len(body), 10_000):
        yield body[begin : begin + 10_000]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """One for all tests of this module."""
    folder, port = tmp_path_factory.mktemp("front"), free_port()
    settings = {
        "PAYHOOK_DATABASE_URL": f"sqlite:///{folder / 'payhook.db'}",
        "PAYHOOK_BROKER_URL": f"amqp://127.0.0.1:{free_port()}//",
        "PAYHOOK_KEY_STORE": "memory:",
        "PAYHOOK_WEBHOOK_KEYS": f"{KEY_ID}={SECRET}",
    }
    migrate(settings["PAYHOOK_DATABASE_URL"])
    ingress = Process(
        "serve", [program("payhook"), "serve", "--port", str(port)], folder=folder, env=settings, cwd=folder
    )
    ingress.start()
    try:
        ingress.wait_until(f"http://127.0.0.1:{port}/health/live")
        with NginxServer(port, port) as nginx:
            yield Front(nginx, ingress)
    finally:
        ingress.kill()


pytestmark = pytest.mark.servers


def test_a_genuine_event_passes_as_it_is(front: Front) -> None:
    """Its bytes, its length and its headers reach the ingress unchanged, or the signature would not hold."""
    assert front.post(event_body()) == 204
    assert front.post(event_body(name="\u0000é\r\n\t")) == 204
    assert front.post(b"\xff\x00 not JSON \r\n") == 204


@pytest.mark.parametrize(("length", "status"), [(MOST_BYTES, 204), (MOST_BYTES + 1, 413)])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_limit_of_a_body_is_the_ingress_s(front: Front, length: int, status: int, chunked: bool) -> None:
    """256 KiB pass, one byte more is 413, whether the length is told or not."""
    body = padded(length)

    answered, _, _ = front.ask("POST", "/webhooks", pieces(body) if chunked else body, signed(body))

    assert answered == status


def test_a_body_of_unknown_length_can_be_genuine(front: Front) -> None:
    """nginx counts it and hands it over whole."""
    body = event_body()

    assert front.ask("POST", "/webhooks", pieces(body), signed(body))[0] == 204


def test_what_is_forged_is_refused_by_the_ingress(front: Front) -> None:
    """A wrong signature, a doubled header, and one with underscores in the place of the real one: 401."""
    body = event_body()
    key_id, signature, _ = signed(body)

    assert front.post(body + b" ", signature) == 401
    assert front.ask("POST", "/webhooks", body, [key_id, signature, signature])[0] == 401
    assert front.ask("POST", "/webhooks", body, [key_id, key_id, signature])[0] == 401
    assert front.ask("POST", "/webhooks", body, [key_id, ("X_GCS_Signature", signature[1])])[0] == 401
    assert front.post(body, ("X_GCS_Signature", "another")) == 204


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_another_method_is_refused(front: Front, method: str) -> None:
    """405, as without nginx."""
    assert front.ask(method, "/webhooks")[0] == 405


def test_a_compressed_body_is_refused(front: Front) -> None:
    """415, as without nginx."""
    assert front.post(event_body(), ("Content-Encoding", "gzip")) == 415


def test_the_platform_can_verify_the_endpoint(front: Front) -> None:
    """What it sent comes back."""
    status, headers, content = front.ask("GET", "/webhooks", None, [("X-GCS-Webhooks-Endpoint-Verification", "abc-1")])

    assert (status, content) == (200, b"abc-1")
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    "path", ["/", "/health/live", "/health/ready", "/webhooks/", "/webhooks/../health/ready", "/WEBHOOKS", "/metrics"]
)
def test_nothing_else_is_there(front: Front, path: str) -> None:
    """404, also for health, which tells strangers more than they need to know."""
    assert front.ask("GET", path)[0] == 404


def test_no_answer_names_a_version(front: Front) -> None:
    """Neither in a header nor on a page."""
    for path in ("/webhooks", "/nothing"):
        _, headers, content = front.ask("GET", path)
        assert headers.get("server") == "nginx"
        assert b"nginx/" not in content


@pytest.mark.parametrize(
    "head",
    [
        b"POST /webhooks HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /webhooks HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",
        b"POST /webhooks HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * 20_000 + b"\r\n\r\n",
        b"POST /webhooks HTTP/9\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
)
def test_what_two_servers_could_read_differently_is_refused(front: Front, head: bytes) -> None:
    """Two lengths, or a length and chunks, or no request at all: 400 or the like, and once."""
    with (
        socket.create_connection(("127.0.0.1", front.nginx.port), timeout=10) as plain,
        trusting().wrap_socket(plain) as line,
    ):
        line.sendall(head)
        answer = line.recv(65536)
        line.settimeout(0.5)  # nginx keeps reading for 5 s, so that the answer is not lost
        with contextlib.suppress(TimeoutError):
            while more := line.recv(65536):
                answer += more

    assert answer.split(b"\r\n")[0].split()[1] in (b"400", b"414", b"431", b"505")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_one_connection_carries_many_events(front: Front) -> None:
    """The platform need not connect anew for each."""
    connection = front.connect()
    statuses = []
    for _ in range(20):
        body = event_body()
        connection.request("POST", "/webhooks", body, dict(signed(body)))
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
    connection.close()

    assert statuses == [204] * 20


def test_an_ingress_that_is_away_is_a_503(front: Front) -> None:
    """Killed or frozen, the platform is told to come again; never 502 or 504; and all is well when it is back."""
    front.ingress.freeze()
    began = time.monotonic()
    frozen = front.ask("POST", "/webhooks", b"{}", signed(b"{}"))
    frozen_seconds = time.monotonic() - began
    front.ingress.thaw()

    front.ingress.kill()
    began = time.monotonic()
    killed = front.ask("POST", "/webhooks", b"{}", signed(b"{}"))
    killed_seconds = time.monotonic() - began
    front.ingress.start()
    front.ingress.wait_until(lambda: front.post(event_body()) == 204)

    for status, headers, content in (frozen, killed):
        assert (status, headers["retry-after"], content) == (503, "5", b"try again\n")
    assert frozen_seconds < 6
    assert killed_seconds < 3


def test_the_shipped_configuration_is_valid_as_it_stands(tmp_path: Path) -> None:
    """With its own addresses too, given a certificate."""
    configuration = tmp_path / "configuration"
    shutil.copytree(SHIPPED, configuration)
    for name, content in zip(("tls_certificate", "tls_key"), self_signed(), strict=True):
        (configuration / name).write_bytes(content)
    listen = (configuration / "listen.conf").read_text().replace("/run/secrets", str(configuration))
    (configuration / "listen.conf").write_text(listen)

    tested = subprocess.run(
        [PROGRAM, "-t", *arguments(tmp_path, configuration / "nginx.conf")], capture_output=True, text=True
    )

    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
