"""How gateways are made of settings."""

from pathlib import Path

import pytest

from tests.worker.gateways.platform_stub import Stub, answer, hang, payment
from worker.gateways import open_gateways
from worker.gateways.gateway import TryAgain
from worker.settings import Settings, SettingsError

MERCHANTS = """
[[merchant]]
id = "acme"
api_key_id = "a"
api_secret = "s"
api_endpoint = "{endpoint}"

[[merchant]]
id = "other"
api_key_id = "b"
api_secret = "t"
api_endpoint = "{endpoint}"
"""

PROPERTIES = """
[OnlinePaymentsSDK]
onlinePayments.api.endpoint.host=127.0.0.1
onlinePayments.api.endpoint.scheme=http
onlinePayments.api.endpoint.port={port}
onlinePayments.api.authorizationType=v1HMAC
onlinePayments.api.connectTimeout=1
onlinePayments.api.socketTimeout=1
"""


def properties(tmp_path: Path, content: str) -> Settings:
    path = tmp_path / "sdk.properties"
    path.write_text(content)
    return Settings(merchant_id="acme", api_key_id="key", api_secret="secret", sdk_properties=path)


def test_every_merchant_gets_a_gateway(stub: Stub, tmp_path: Path) -> None:
    """By its id, and without a word to the platform."""
    (tmp_path / "merchants.toml").write_text(MERCHANTS.format(endpoint=stub.endpoint))

    gateways = open_gateways(Settings(merchants_file=tmp_path / "merchants.toml"))

    assert {key: gateway.merchant_id for key, gateway in gateways.items()} == {"acme": "acme", "other": "other"}
    assert stub.accepted == 0


def test_no_merchant_is_an_error() -> None:
    """Without one there is nothing to ask."""
    with pytest.raises(SettingsError, match="no merchant"):
        open_gateways(Settings())


def test_a_properties_file_gives_endpoint_and_time_outs(stub: Stub, tmp_path: Path) -> None:
    """Its host is called, and its socketTimeout is the longest a call may take."""
    gateway = open_gateways(properties(tmp_path, PROPERTIES.format(port=stub.port)))["acme"]
    stub.replies = {"payment": answer(200, payment(code=0))}
    gateway.look("3254564310", seconds=5)
    stub.replies = {"payment": hang(1.5)}

    with pytest.raises(TryAgain, match="TimeoutError"):
        gateway.look("3254564310", seconds=5)

    assert stub.asked[0].headers["host"] == f"127.0.0.1:{stub.port}"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no section"),
        ("[Other]\na=b\n", "No section"),
        ("just a line\n", "MissingSectionHeaderError"),
        (PROPERTIES.replace("onlinePayments.api.socketTimeout=1", ""), "sockettimeout"),
        (PROPERTIES.replace("socketTimeout=1", "socketTimeout=soon"), "ValueError"),
        (PROPERTIES.replace("socketTimeout=1", "socketTimeout=0"), "more than 0"),
        (PROPERTIES.replace("127.0.0.1", "example.org"), "https"),
        (PROPERTIES + "onlinePayments.api.proxy.uri=http://127.0.0.1:1\n", "proxy"),
    ],
)
def test_a_wrong_properties_file_is_an_error_that_says_so(tmp_path: Path, content: str, told: str) -> None:
    """The setting, the file and what is wrong with it; never what stands in it."""
    with pytest.raises(SettingsError, match=rf"(?s)PAYHOOK_SDK_PROPERTIES.*sdk\.properties.*{told}") as raised:
        open_gateways(properties(tmp_path, content.replace("{port}", "8080")))

    assert "just a line" not in str(raised.value)


def test_a_missing_properties_file_is_an_error(tmp_path: Path) -> None:
    """A file that is not there gives nothing."""
    settings = Settings(merchant_id="acme", api_key_id="k", api_secret="s", sdk_properties=tmp_path / "none")

    with pytest.raises(SettingsError, match="FileNotFoundError"):
        open_gateways(settings)
