"""A scripted platform and a gateway to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.worker.gateways.platform_stub import MakeGateway, Stub, answer, capture, details, payment, refund
from worker.gateways.connection import PlatformConnection
from worker.gateways.worldline import WorldlineGateway
from worker.settings import Merchant, Settings


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``.env`` and no proxy of the machine the tests run on."""
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """Answers for a captured and partly refunded payment, until a test scripts otherwise."""
    stub = Stub()
    stub.replies = {
        "payment": answer(200, payment(code=9)),
        "details": answer(200, details()),
        "captures": answer(200, {"captures": [capture("3254564310_1")]}),
        "refunds": answer(200, {"refunds": [refund("3254564310_2", amount=500)]}),
    }
    yield stub
    stub.close()


@pytest.fixture
def gateway_to() -> Iterator[MakeGateway]:
    made: list[WorldlineGateway] = []

    def make(endpoint: str, *, merchant: str = "acme", **settings: Any) -> WorldlineGateway:
        who = Merchant(id=merchant, api_key_id=f"key-of-{merchant}", api_secret="secret", api_endpoint=endpoint)
        made.append(WorldlineGateway(who, Settings(**settings)))
        return made[-1]

    yield make
    for gateway in made:
        gateway.close()


@pytest.fixture
def gateway(stub: Stub, gateway_to: MakeGateway) -> WorldlineGateway:
    return gateway_to(stub.endpoint)


@pytest.fixture
def connection(stub: Stub) -> Iterator[PlatformConnection]:
    connection = PlatformConnection(stub.endpoint, call_seconds=0.4, connect_seconds=0.4, pool_size=4)
    yield connection
    connection.close()
