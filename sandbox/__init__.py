"""The payment platform in miniature, over HTTP: for trying payhook and for testing it without an account."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from sandbox.authentication import DEFAULT_MERCHANT, Merchants
from sandbox.client import SandboxClient, SandboxRefused
from sandbox.control import Control
from sandbox.faults import Faults
from sandbox.idempotence import IdempotenceKeys
from sandbox.ledger import Ledger
from sandbox.platform_api import PlatformApi
from sandbox.server import Server
from sandbox.settings import Dials, Settings, changed
from sandbox.state import Parts
from sandbox.webhooks import Deliveries
from sandbox.wire import Answer, Request

__all__ = ["Sandbox", "SandboxClient", "SandboxRefused", "serve"]


class Sandbox:
    """The parts put together, served by threads of this process.

    ``settings`` are those of ``PATCH /sandbox/settings``: ``Sandbox(settle_seconds=0.05, webhooks={"urls": […]})``.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **settings: Any):
        dials = Dials(changed(Settings(), settings))
        merchants = Merchants([DEFAULT_MERCHANT])
        self._deliveries = Deliveries(dials)
        self._deliveries.settings_changed()
        self._ledger = Ledger(dials, self._deliveries.publish)
        keys, faults = IdempotenceKeys(dials), Faults()
        self._platform = PlatformApi(self._ledger, merchants, keys, faults, dials)
        self._server = Server(host, port, self._answer)
        parts = Parts(dials, merchants, self._ledger, keys, faults, self._deliveries)
        self._control = Control(parts, self._server.refuse)
        self._dials = dials

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def credentials(self) -> str:
        webhooks = self._dials.now.webhooks
        return (
            f"merchant {DEFAULT_MERCHANT.id}, "
            f"API key {DEFAULT_MERCHANT.api_key_id}, secret {DEFAULT_MERCHANT.api_secret}, "
            f"webhook key {webhooks.key_id}, secret {webhooks.secret}"
        )

    def client(self) -> SandboxClient:
        return SandboxClient(self.url)

    def start(self) -> None:
        self._ledger.start()
        self._deliveries.start()
        self._server.start()

    def close(self) -> None:
        self._server.close()
        self._ledger.close()
        self._deliveries.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _answer(self, request: Request) -> Answer:
        if request.path.startswith("/v2/"):
            return self._platform.answer(request)
        return self._control.answer(request)


def serve(host: str = "127.0.0.1", port: int = 8081) -> None:
    """Serve until SIGTERM or SIGINT. Only in the main thread: it sets the handlers of both."""
    asked_to_end = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        asked_to_end.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with Sandbox(host, port) as box:
            print(f"sandbox at {box.url}: {box.credentials}", flush=True)
            asked_to_end.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
