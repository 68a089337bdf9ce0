"""A sandbox of its own for every test, the platform's SDK pointed at it, and somewhere for its webhooks to go."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from onlinepayments.sdk.communicator_configuration import CommunicatorConfiguration
from onlinepayments.sdk.domain.create_payment_request import CreatePaymentRequest
from onlinepayments.sdk.factory import Factory

from sandbox import Sandbox, SandboxClient


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK obeys proxies of the environment, even for the loopback."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def box() -> Iterator[Sandbox]:
    with Sandbox(settle_seconds=0.02, retry_seconds=[0.05, 0.1, 0.2]) as box:
        yield box


@pytest.fixture
def control(box: Sandbox) -> Iterator[SandboxClient]:
    with box.client() as client:
        yield client


def sdk_merchant(url: str, merchant_id: str = "sandbox", key_id: str = "sandbox-key", secret: str = "sandbox-secret"):
    configuration = CommunicatorConfiguration(
        api_endpoint=url,
        api_key_id=key_id,
        secret_api_key=secret,
        authorization_type="v1HMAC",
        connect_timeout=5,
        socket_timeout=10,
        max_connections=4,
        integrator="tests",
    )
    return Factory.create_client_from_configuration(configuration).merchant(merchant_id)


@pytest.fixture
def merchant_as(box: Sandbox) -> Callable[..., Any]:
    """The SDK with other credentials than the default merchant's."""
    return lambda **credentials: sdk_merchant(box.url, **credentials)


@pytest.fixture
def merchant(box: Sandbox):
    return sdk_merchant(box.url)


@pytest.fixture
def pay(merchant) -> Callable[..., str]:
    """Make a payment through the SDK; its id."""

    def pay(amount: int = 1500, mode: str = "FINAL_AUTHORIZATION", **feedbacks: Any) -> str:
        body = {
            "order": {
                "amountOfMoney": {"amount": amount, "currencyCode": "EUR"},
                "references": {"merchantReference": "order-1", "merchantParameters": '{"shop":"ü"}'},
            },
            "cardPaymentMethodSpecificInput": {
                "authorizationMode": mode,
                "card": {"cardNumber": "4330264936344675", "expiryDate": "1299", "cvv": "123"},
            },
            **feedbacks,
        }
        request = CreatePaymentRequest().from_dictionary(body)
        return merchant.payments().create_payment(request).payment.id

    return pay


@pytest.fixture
def settled(control: SandboxClient) -> Callable[[], Any]:
    """Wait until every operation has its outcome and every event was sent."""
    return control.wait_until_delivered


@dataclass
class Receiver:
    """Takes webhooks, remembers them, and answers 204, or first what it was told to."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        self.received.append((headers, body))
        self.at.append(time.monotonic())
        return self.answers.pop(0) if self.answers else 204


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(receiver.take({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    class House(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64  # with the usual 5, senders that come together wait a second for their connection

    server = House(("127.0.0.1", 0), Door)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/webhooks"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield receiver
    server.shutdown()
    server.server_close()
