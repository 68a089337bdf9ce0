"""A platform of raw sockets: says on the wire exactly what a test scripts, however wrong it is."""

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from onlinepayments.sdk.communication.communication_exception import CommunicationException

from worker.gateways.gateway import Gateway, Order
from worker.lifecycle import MovementKind

#: Personal data that every answer here carries, and that may show up nowhere.
CARD = "4111111111111111"
EMAIL = "someone@example.org"
TOKEN = "tok-5f1d0b1c-3e7c-4a2b"
CANARIES = (CARD, EMAIL, TOKEN, "Someone", "203.0.113.7", "free text of the merchant")

MakeGateway = Callable[..., Any]  # endpoint, merchant, settings by name
Reply = Callable[[socket.socket], bool]  # says its piece; True keeps the connection


@dataclass
class Asked:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Stub:
    """Listens on the loopback. ``replies`` is by the last part of the path, ``payment`` for the payment itself."""

    tls: ssl.SSLContext | None = None
    replies: dict[str, Reply] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    accepted: int = 0
    most_open: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        with self._lock:
            for sock in self._open:
                sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(sock)
                self.accepted += 1
                self.most_open = max(self.most_open, len(self._open))
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        sock = plain
        try:
            if self.tls is not None:
                sock = self.tls.wrap_socket(plain, server_side=True)
            with sock.makefile("rb") as stream:
                while (asked := _request(stream)) is not None:
                    self.asked.append(asked)
                    if not self._reply_for(asked.target)(sock):
                        break
        except OSError:
            pass  # the client left first, or the test closed us
        finally:
            with self._lock:
                self._open.discard(plain)
            sock.close()

    def _reply_for(self, target: str) -> Reply:
        last = target.rsplit("/", 1)[1]
        return self.replies.get(last) or self.replies.get("payment") or answer(404, "no such page", "text/html")


def _request(stream: Any) -> Asked | None:
    line = stream.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers = {}
    while (raw := stream.readline()).strip():
        name, _, value = raw.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Asked(line[0], line[1], headers, stream.read(int(headers.get("content-length", 0))))


def raw(*pieces: bytes, every: float = 0, keep: bool = False, forever: bool = False) -> Reply:
    """Pieces as they are, ``every`` seconds one; ``forever`` says the last one again and again."""

    def reply(sock: socket.socket) -> bool:
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(every)
        while forever:
            sock.sendall(pieces[-1])
            time.sleep(every)
        return keep

    return reply


def answer(status: int, body: Any = b"", content_type: str | None = "application/json", **headers: str) -> Reply:
    """A well-formed answer on a connection that is kept; ``body`` may be what JSON can say."""
    content = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return raw(head(status, content_type, Content_Length=str(len(content)), **headers) + content, keep=True)


def head(status: int, content_type: str | None = "application/json", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Something"]
    lines += [f"Content-Type: {content_type}"] if content_type else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def hang(seconds: float = 3) -> Reply:
    """Listens and says nothing."""
    return raw(b"", every=seconds)


def reset(after: bytes = b"") -> Reply:
    """Says some and breaks the connection with a RST."""

    def reply(sock: socket.socket) -> bool:
        sock.sendall(after)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD) if not after else None
        return False

    return reply


def errors(*one: dict[str, Any], error_id: str = "a1b2c3d4-0000") -> dict[str, Any]:
    """An error as the platform words it, with texts nobody should repeat."""
    return {"errorId": error_id, "errors": [{"message": f"{CARD} {EMAIL} {TOKEN}", **entry} for entry in one]}


def money(amount: Any = 1500, currency: Any = "EUR") -> dict[str, Any]:
    return {"amount": amount, "currencyCode": currency}


def personal() -> dict[str, Any]:
    return {
        "cardPaymentMethodSpecificOutput": {
            "paymentProductId": 1,
            "token": TOKEN,
            "card": {"cardNumber": CARD, "cardholderName": "Someone Else", "expiryDate": "1230"},
        },
        "customer": {
            "contactDetails": {"emailAddress": EMAIL},
            "personalInformation": {"name": {"firstName": "Someone", "surname": "Someone"}},
            "device": {"ipAddress": "203.0.113.7"},
        },
        "merchantParameters": "free text of the merchant",
    }


def payment(payment_id: Any = "3254564310_0", code: Any = 5, **changes: Any) -> dict[str, Any]:
    """A payment as get_payment answers it."""
    status, category = {
        0: ("CREATED", "CREATED"),
        5: ("PENDING_CAPTURE", "PENDING_MERCHANT"),
        6: ("CANCELLED", "UNSUCCESSFUL"),
        8: ("REFUNDED", "REFUNDED"),
        9: ("CAPTURED", "COMPLETED"),
    }.get(code, ("SOMETHING", "PENDING_CONNECT_OR_3RD_PARTY"))
    told: dict[str, Any] = {
        "id": payment_id,
        "status": status,
        "statusOutput": {"statusCode": code, "statusCategory": category, "isAuthorized": code == 5},
        "paymentOutput": {
            "amountOfMoney": money(),
            "acquiredAmount": money(1500 if code == 9 else 0),
            "references": {"merchantReference": "order-7"},
            "paymentMethod": "card",
            **personal(),
        },
    }
    return told | changes


def changed(**changes: Any) -> dict[str, Any]:
    """A created payment with parts replaced, by their names anywhere in it."""
    told = payment(code=0)
    for name, value in changes.items():
        place = next(one for one in (told, told["statusOutput"], told["paymentOutput"]) if name in one)
        place[name] = value
    return told


def details(*operations: dict[str, Any], payment_id: str = "3254564310_0") -> dict[str, Any]:
    """The same with its operations, as get_payment_details answers it."""
    return {**payment(payment_id), "Operations": list(operations)}


def operation(operation_id: str, code: Any, amount: Any = 1500, reference: str | None = None) -> dict[str, Any]:
    return {
        "id": operation_id,
        "amountOfMoney": money(amount),
        "status": "WHATEVER",
        "statusOutput": {"statusCode": code, "statusCategory": "COMPLETED"},
        "operationReferences": {"merchantReference": reference},
        "references": {"merchantReference": "order-7"},
    }


def capture(operation_id: Any, code: Any = 9, amount: Any = 1500, reference: str | None = None) -> dict[str, Any]:
    output = {"amountOfMoney": money(amount), "operationReferences": {"merchantReference": reference}, **personal()}
    return {
        "id": operation_id,
        "status": "CAPTURED",
        "statusOutput": {"statusCode": code},
        "captureOutput": {key: value for key, value in output.items() if key != "customer"},
    }


def refund(operation_id: Any, code: Any = 8, amount: Any = 1500, reference: str | None = None) -> dict[str, Any]:
    output = {"amountOfMoney": money(amount), "operationReferences": {"merchantReference": reference}}
    return {
        "id": operation_id,
        "status": "REFUNDED",
        "statusOutput": {"statusCode": code, "statusCategory": "REFUNDED"},
        "refundOutput": {**output, "merchantParameters": "free text of the merchant"},
    }


#: The uuid of an operation of ours.
REFERENCE = "1d7f3c52-6a0e-4f0e-9a55-0c2b8c1f9d11"


def order_to(
    gateway: Gateway,
    kind: MovementKind,
    payment_id: str = "3254564310",
    *,
    amount: int = 1500,
    currency: str = "EUR",
    key: str = "key-1",
    reference: str = REFERENCE,
) -> Order:
    """An order as it is promised: composed, with a key of its own."""
    body = gateway.compose(kind, amount, currency, is_final=False, reference=reference)
    return Order(kind, payment_id, amount, currency, reference, key, body)


def cancellation(operation_id: Any = "3254564310_1", code: Any = 61, amount: Any = 1500, **changes: Any) -> Any:
    """A payment with one cancellation of it, as cancel_payment answers."""
    named = {"operationOutput": operation(operation_id, code, amount, REFERENCE) | changes}
    return {"payment": {**payment("3254564310_0", 61), **named}}


def failure_of(connection: Any, url: str) -> Exception:
    """Why a call on the connection failed; what led to it, which may quote an answer, is not attached."""
    with pytest.raises(CommunicationException) as raised:
        connection.get(url, [])
    assert raised.value.__context__ is None
    return raised.value.cause  # type: ignore[no-any-return]
