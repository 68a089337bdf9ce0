"""The process and its socket."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from sandbox import SandboxClient

HOUSE = Path(__file__).parents[2]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_is_and_leaves_when_asked(ending):
    """One line with address and credentials; both signals end it with success, and at once."""
    command = [sys.executable, "-m", "sandbox", "--port", "0"]
    process = subprocess.Popen(command, cwd=HOUSE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        url = line.removeprefix("sandbox at ").split(": ")[0]
        with SandboxClient(url) as client:
            merchants = client.about()["merchants"]
        asked = time.monotonic()

        process.send_signal(ending)
        output, errors = process.communicate(timeout=5)
    finally:
        process.kill()
        process.wait()

    assert merchants[0]["api_secret"] in line
    assert "sandbox-webhook-key" in line
    assert "sandbox-webhook-secret-for-trying-out" in line
    assert (process.returncode, output, errors) == (0, "", "")
    assert time.monotonic() - asked < 2


def exchange(box, sent):
    """What comes back on a raw connection until the other side closes it."""
    host, port = box.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\r\n\r\n",
        b"GET /sandbox\r\n\r\n",
        b"GET /sandbox HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /sandbox HTTP/1.1\r\nHost: x",
        b"GET /sandbox HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"POST /sandbox HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /sandbox HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort",
        b"POST /sandbox HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /sandbox HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /sandbox HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
        b"POST /sandbox HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd",
        b"POST /sandbox HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
    ],
)
def test_what_is_not_http_is_told_so_and_let_go(box, sent):
    """400, and the connection is closed: what follows on it could not be trusted."""
    answer = exchange(box, sent)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close" in answer


def test_a_body_may_come_in_chunks(box):
    """Their sizes in hexadecimal, extensions and trailers let pass."""
    chunks = b'5;x=y\r\n{"cou\r\nA\r\nnt":2,"amo\r\n8\r\nunt": 7}\r\n0\r\nTrailer: t\r\n\r\n'

    answer = exchange(box, b"POST /sandbox/payments HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)

    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    assert answer.count(b"_0") == 2


def test_a_connection_serves_one_request_after_another(box):
    """Kept alive until the client asks for its end; pipelined requests are answered in order."""
    get = b"GET /sandbox/calls HTTP/1.1\r\n%s\r\n"

    answer = exchange(box, get % b"" + get % b"" + get % b"Connection: close\r\n" + get % b"")

    assert answer.count(b"HTTP/1.1 200 OK") == 3


def test_a_mistake_of_the_sandbox_is_an_answer(box, monkeypatch, caplog):
    """500 with the reason in the log, not a connection that breaks."""

    def fail(request):
        raise ZeroDivisionError

    monkeypatch.setattr(box._server, "decide", fail)

    answer = requests.get(f"{box.url}/sandbox", timeout=5)

    assert answer.status_code == 500
    assert "GET /sandbox could not be answered" in caplog.text
