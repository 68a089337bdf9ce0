"""The connection: where it goes, how long it takes, how much it takes in, and what it does not do."""

import gzip
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from onlinepayments.sdk.communication.multipart_form_data_object import MultipartFormDataObject
from onlinepayments.sdk.communication.request_header import RequestHeader

from tests.worker.gateways.platform_stub import MakeGateway, Reply, Stub, answer, failure_of, head, payment, raw
from worker.gateways import sockets
from worker.gateways.connection import ANSWER_LIMIT, AnswerLost, NeverLeft, PlatformConnection
from worker.gateways.gateway import NotSent, TryAgain
from worker.gateways.worldline import WorldlineGateway

SPACES = b" " * 65536


LARGE: dict[str, Reply] = {
    "a body without an end": raw(head(200), SPACES, forever=True),
    "chunks without an end": raw(head(200, Transfer_Encoding="chunked"), b"10000\r\n" + SPACES + b"\r\n", forever=True),
    "headers without an end": raw(b"HTTP/1.1 200 OK\r\n", b"X: " + b"a" * 60000 + b"\r\n", forever=True),
    "go-aheads without an end": raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, forever=True),
    "trailers without an end": raw(
        head(200, Transfer_Encoding="chunked") + b"0\r\n", b"X: " + b"a" * 60000 + b"\r\n", forever=True
    ),
    "a hundred megabytes announced": raw(head(200, Content_Length=str(10**8)), SPACES, forever=True),
    "more than memory announced": raw(head(200, Content_Length=str(10**17)), SPACES, forever=True),
    "a chunk larger than memory": raw(
        head(200, Transfer_Encoding="chunked") + b"F" * 15 + b"\r\n", SPACES, forever=True
    ),
    "one byte too many": answer(200, b" " * (ANSWER_LIMIT + 1)),
    "a packed one": answer(200, gzip.compress(b" " * (ANSWER_LIMIT + 1)), Content_Encoding="gzip"),
    "a packed one of a gigabyte": answer(200, gzip.compress(bytes(10**8)), Content_Encoding="gzip"),
}


@pytest.mark.parametrize("large", LARGE)
def test_an_answer_has_a_largest_size(stub: Stub, gateway_to: MakeGateway, large: str) -> None:
    """More than a mebibyte is not read, packed or unpacked, and its connection is not used again."""
    stub.replies = {"payment": LARGE[large]}
    gateway = gateway_to(stub.endpoint)

    with pytest.raises(TryAgain, match=r"AnswerTooLarge|HTTPException|LineTooLong"):
        gateway.look("3254564310", seconds=5)

    stub.replies = {"payment": answer(200, payment(code=0))}
    gateway.look("3254564310", seconds=5)
    assert stub.accepted == 2


def test_the_largest_answer_is_read(stub: Stub, connection: PlatformConnection) -> None:
    """A mebibyte exactly."""
    stub.replies = {"payment": answer(200, b" " * ANSWER_LIMIT)}

    status, _, body = connection.get(f"{stub.endpoint}/x", [])

    assert (status, len(b"".join(body))) == (200, ANSWER_LIMIT)


def test_a_packed_answer_is_unpacked(stub: Stub, connection: PlatformConnection) -> None:
    """We ask for plain ones, but a proxy in between may know better."""
    stub.replies = {"payment": answer(200, gzip.compress(b"hello"), Content_Encoding="gzip")}

    assert b"".join(connection.get(f"{stub.endpoint}/x", [])[2]) == b"hello"


@pytest.mark.parametrize(
    ("content", "encoding"), [(gzip.compress(b"hello", mtime=0)[:-6], "gzip"), (b"hello", "gzip"), (b"hello", "br")]
)
def test_a_badly_packed_answer_is_lost(
    stub: Stub, connection: PlatformConnection, content: bytes, encoding: str
) -> None:
    """Cut off, not packed at all, or packed in a way we did not ask for."""
    stub.replies = {"payment": answer(200, content, Content_Encoding=encoding)}

    assert isinstance(failure_of(connection, f"{stub.endpoint}/x"), AnswerLost)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(stub: Stub, gateway: WorldlineGateway, status: int) -> None:
    """Neither to another host nor to the same: the target hears nothing, and the answer is none."""
    target = Stub()
    target.replies = {"payment": answer(200, payment())}
    stub.replies = {"payment": answer(status, b"", None, Location=f"{target.endpoint}/v2/acme/payments/3254564310_0")}

    with pytest.raises(TryAgain):
        gateway.look("3254564310", seconds=5)

    assert (len(stub.asked), len(target.asked)) == (1, 0)
    target.close()


def test_the_environment_cannot_change_where_a_call_goes_or_as_whom(
    stub: Stub, gateway_to: MakeGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies in the environment and ``~/.netrc`` are for other programs."""
    proxy = Stub()
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.endpoint)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))

    gateway_to(stub.endpoint).look("3254564310", seconds=5)

    assert proxy.accepted == 0
    assert all(asked.headers["authorization"].startswith("GCS v1HMAC:key-of-acme:") for asked in stub.asked)
    proxy.close()


def test_no_other_host_is_ever_called(stub: Stub, connection: PlatformConnection) -> None:
    """The endpoint is the only one our key is shown to."""
    other = Stub()

    failures = [failure_of(connection, url) for url in (f"{other.endpoint}/x", f"https://127.0.0.1:{stub.port}/x")]

    assert all(isinstance(failure, NeverLeft) for failure in failures)
    assert stub.accepted == other.accepted == 0
    other.close()


def test_a_refused_connection_was_not_sent(gateway_to: MakeGateway) -> None:
    """Nobody listens there: certainly nothing happened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(NotSent):
        gateway_to(f"http://127.0.0.1:{port}").look("3254564310", seconds=5)


def test_an_unknown_name_was_not_sent() -> None:
    """A host that has no address."""
    connection = PlatformConnection("https://no-such-host.invalid", call_seconds=5, connect_seconds=5, pool_size=1)

    assert isinstance(failure_of(connection, "https://no-such-host.invalid/x"), NeverLeft)


def test_many_threads_share_a_small_pool(stub: Stub, gateway_to: MakeGateway) -> None:
    """Thirty-two threads over four connections: nobody fails, and no fifth socket is opened."""
    gateway = gateway_to(stub.endpoint, platform_threads=4)

    with ThreadPoolExecutor(32) as threads:
        views = list(threads.map(lambda _: gateway.look("3254564310", seconds=10), range(96)))

    assert len({view.payment_id for view in views}) == 1
    assert len(stub.asked) == 4 * 96
    assert stub.accepted <= 4


@pytest.mark.parametrize(("reply", "connections"), [(answer(404), 1), (answer(503), 2), (raw(b""), 2)])
def test_a_connection_is_kept_only_after_a_sound_answer(
    stub: Stub, gateway: WorldlineGateway, reply: Reply, connections: int
) -> None:
    """What broke once is not trusted with the next request."""
    stub.replies = {"payment": reply}
    with pytest.raises(TryAgain):
        gateway.look("3254564310", seconds=5)
    stub.replies = {"payment": answer(200, payment(code=0))}

    gateway.look("3254564310", seconds=5)

    assert stub.accepted == connections


def test_a_connection_silent_for_long_is_not_used_again(
    stub: Stub, connection: PlatformConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something in between may have forgotten it, and a request on it would be lost."""
    stub.replies = {"payment": answer(200, b"{}")}
    connection.get(f"{stub.endpoint}/x", [])
    connection.get(f"{stub.endpoint}/x", [])
    monkeypatch.setattr(sockets, "MAX_IDLE_SECONDS", -1.0)

    connection.get(f"{stub.endpoint}/x", [])

    assert stub.accepted == 2


def test_bodies_are_sent_as_the_sdk_means_them(stub: Stub, connection: PlatformConnection) -> None:
    """Text as UTF-8, packed when the header says so; a file is not sent but refused clearly."""
    stub.replies = {"payment": answer(200, b"{}")}
    packed = [RequestHeader("Content-Encoding", "gzip")]

    connection.post(f"{stub.endpoint}/x?a=1", [], '{"é": 1}')
    connection.put(f"{stub.endpoint}/x", packed, '{"é": 1}')
    connection.delete(f"{stub.endpoint}/x", [])

    assert [(asked.method, asked.target) for asked in stub.asked] == [
        ("POST", "/x?a=1"), ("PUT", "/x"), ("DELETE", "/x"),
    ]  # fmt: skip
    assert stub.asked[0].body == gzip.decompress(stub.asked[1].body) == '{"é": 1}'.encode()
    with pytest.raises(NotImplementedError):
        connection.post(f"{stub.endpoint}/x", [], MultipartFormDataObject())


def test_after_close_nothing_is_sent(stub: Stub, gateway: WorldlineGateway) -> None:
    """A closed gateway is closed."""
    gateway.close()

    with pytest.raises(NotSent):
        gateway.look("3254564310", seconds=5)

    assert stub.accepted == 0
