"""A call ends when its time is over, wherever it is then."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.servers.process_tree import wait_for
from tests.worker.gateways.platform_stub import MakeGateway, Reply, Stub, failure_of, hang, head, raw
from worker.gateways.connection import AnswerLost, NeverLeft, PlatformConnection
from worker.gateways.deadlines import deadline
from worker.gateways.gateway import NotSent, TryAgain
from worker.gateways.worldline import WorldlineGateway

DRIPS: dict[str, Reply] = {
    "silence": hang(2),
    "a drip of the status line": raw(*[bytes([byte]) for byte in head(200)], every=0.1),
    "a drip of headers": raw(b"HTTP/1.1 200 OK\r\n", *[b"X-H: 1\r\n"] * 20, every=0.1),
    "a drip in a header": raw(b"HTTP/1.1 200 OK\r\nX-H: ", *[b"a"] * 20, every=0.1),
    "a drip of go-aheads": raw(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 20, every=0.1),
    "a drip of the body": raw(head(200, Content_Length="100"), *[b" "] * 20, every=0.1),
    "a drip of chunks": raw(head(200, Transfer_Encoding="chunked"), *[b"1\r\n \r\n"] * 20, every=0.1),
    "a drip in the length of a chunk": raw(head(200, Transfer_Encoding="chunked"), *[b"0"] * 20, every=0.1),
    "a drip after the last chunk": raw(
        head(200, Transfer_Encoding="chunked") + b"0\r\n", *[b"T: 1\r\n"] * 20, every=0.1
    ),
    "a drip without an end": raw(head(200), *[b" "] * 20, every=0.1),
}


@pytest.mark.parametrize("drip", DRIPS)
def test_a_call_ends_on_time(stub: Stub, connection: PlatformConnection, drip: str) -> None:
    """However slowly the answer comes, and whichever part of it, the call is over at its deadline."""
    stub.replies = {"payment": DRIPS[drip]}
    started = time.monotonic()

    failure = failure_of(connection, f"{stub.endpoint}/v2/acme/payments/1_0")

    assert 0.35 < time.monotonic() - started < 1.5  # all of it would take two seconds
    assert isinstance(failure, AnswerLost)


def test_the_calls_of_a_look_share_its_time(stub: Stub, gateway: WorldlineGateway) -> None:
    """Three quick answers and a slow one: what the first took, the last does not get."""
    prompt = stub.replies["details"]
    stub.replies["details"] = lambda sock: time.sleep(0.75) or prompt(sock)  # type: ignore[func-returns-value]
    stub.replies["captures"] = hang(3)
    started = time.monotonic()

    with pytest.raises(TryAgain, match="get_captures"):
        gateway.look("3254564310", seconds=1.0)

    assert 0.95 < time.monotonic() - started < 1.7


def test_without_time_nothing_is_sent(stub: Stub, gateway: WorldlineGateway) -> None:
    """A request whose answer nobody would wait for does not leave."""
    with pytest.raises(NotSent, match="OutOfTime"):
        gateway.look("3254564310", seconds=0)

    assert stub.asked == []


def test_a_deadline_inside_another_cannot_outlast_it(stub: Stub, connection: PlatformConnection) -> None:
    """The earlier one holds."""
    with deadline(0), deadline(60):
        failure = failure_of(connection, f"{stub.endpoint}/x")

    assert isinstance(failure, NeverLeft)


def test_a_resolver_that_hangs_does_not_hold_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name knows no time-out; the call has one all the same."""
    genuine, over = socket.getaddrinfo, threading.Event()

    def slow(host: Any, *args: Any, **kwargs: Any) -> Any:
        return genuine(host, *args, **kwargs) if kwargs.get("flags") else over.wait(5)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    connection = PlatformConnection("https://slow.invalid", call_seconds=0.3, connect_seconds=5, pool_size=1)
    started = time.monotonic()

    failure = failure_of(connection, "https://slow.invalid/x")

    assert isinstance(failure, NeverLeft)
    assert time.monotonic() - started < 3
    over.set()


def test_a_host_that_does_not_answer_was_not_sent_to() -> None:
    """A full backlog swallows the handshake; the time for connecting ends the call, not its whole time."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        time.sleep(0.05)
        connection = PlatformConnection(
            f"http://127.0.0.1:{address[1]}", call_seconds=5, connect_seconds=0.3, pool_size=1
        )
        started = time.monotonic()

        failure = failure_of(connection, f"http://127.0.0.1:{address[1]}/x")

        assert isinstance(failure, NeverLeft)
        assert time.monotonic() - started < 3
        for sock in waiting:
            sock.close()


def test_waiting_for_a_connection_costs_the_callers_own_time(stub: Stub, gateway_to: MakeGateway) -> None:
    """With every connection taken, a call is not sent rather than sent late."""
    stub.replies = {"payment": hang(3)}
    gateway = gateway_to(stub.endpoint, platform_threads=1)

    with ThreadPoolExecutor(1) as other:
        busy = other.submit(gateway.look, "3254564310", seconds=1.5)
        assert wait_for(lambda: stub.asked, 1)
        with pytest.raises(NotSent, match="EmptyPoolError"):
            gateway.look("3254564310", seconds=0.1)
        assert isinstance(busy.exception(), TryAgain)

    assert len(stub.asked) == 1
