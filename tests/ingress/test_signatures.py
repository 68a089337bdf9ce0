"""Genuine webhooks are told from forged ones, over their exact bytes and whatever the headers look like."""

import base64
import hashlib
import hmac
import json
import logging
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from ingress.key_stores import InMemoryKeyStore, KeyRing, KeyStore, KeyStoreUnavailable, WebhookKey
from ingress.signatures import REASONS, Forged, Genuine, Signatures

# The vector that the platform's SDKs publish with their own tests.
KEY_ID = "dummy-key-id"
SECRET = "hello+world"
SIGNATURE = "2S7doBj/GnJnacIjSJzr5fxGM5xmfQyFAwxv1I53ZEk="
BODY_SHA256 = "2882e2ba85e87c14a16cff1ff9351d79336bb6eaf998608d2e8d95b06ae72189"
BODY = json.dumps(
    {
        "apiVersion": "v1",
        "id": "8ee793f6-4553-4749-85dc-f2ef095c5ab0",
        "created": "2017-02-02T11:24:14.040+0100",
        "merchantId": "20000",
        "type": "payment.paid",
        "payment": {
            "id": "00000200000143570012",
            "paymentOutput": {
                "amountOfMoney": {"amount": 1000, "currencyCode": "EUR"},
                "references": {"paymentReference": "200001681810"},
                "paymentMethod": "bankTransfer",
                "bankTransferPaymentMethodSpecificOutput": {"paymentProductId": 11},
            },
            "status": "PAID",
            "statusOutput": {
                "isCancellable": False,
                "statusCategory": "COMPLETED",
                "statusCode": 1000,
                "statusCodeChangeDateTime": "20170202112414",
                "isAuthorized": True,
            },
        },
    },
    indent=2,
).encode()


class Away(KeyStore):
    def load(self) -> Mapping[str, WebhookKey]:
        raise KeyStoreUnavailable("away")


def signed(body: bytes, secret: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


@pytest.fixture
def ring() -> Iterator[KeyRing]:
    """The published key, one bound to a merchant, and one past its end."""
    keys = {
        KEY_ID: WebhookKey(SecretStr(SECRET)),
        "shop": WebhookKey(SecretStr("größer"), merchant_id="MyShop"),
        "past": WebhookKey(SecretStr(SECRET), not_after=datetime(2001, 1, 1, tzinfo=UTC)),
    }
    ring = KeyRing(InMemoryKeyStore(keys), 60)
    yield ring
    ring.close()


@pytest.fixture
def signatures(ring: KeyRing) -> Signatures:
    """What is tested."""
    return Signatures(ring)


def reason_for(signatures: Signatures, body: Any, key_ids: Sequence[Any], presented: Sequence[Any]) -> str:
    with pytest.raises(Forged) as refusal:
        signatures.verify(body, key_ids, presented)
    assert str(refusal.value) == refusal.value.reason
    assert refusal.value.reason in REASONS
    return refusal.value.reason


def test_the_published_vector_is_genuine(signatures: Signatures) -> None:
    """The 765 bytes of the SDK's own test carry the signature published for them."""
    assert (len(BODY), hashlib.sha256(BODY).hexdigest()) == (765, BODY_SHA256)

    assert signatures.verify(BODY, [KEY_ID], [SIGNATURE]) == Genuine(KEY_ID, None)


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"{}\r\n", "ü".encode("utf-16"), b"x" * 262_144])
def test_any_bytes_can_be_genuine(signatures: Signatures, body: bytes) -> None:
    """What the bytes mean is nobody's question yet; the key says which merchant they may speak for."""
    assert signatures.verify(body, ["shop"], [signed(body, "größer")]) == Genuine("shop", "MyShop")


def test_every_changed_bit_of_the_body_is_forged(signatures: Signatures) -> None:
    """All 6120 of them."""
    for bit in range(len(BODY) * 8):
        body = bytearray(BODY)
        body[bit // 8] ^= 1 << bit % 8

        assert reason_for(signatures, bytes(body), [KEY_ID], [SIGNATURE]) == "wrong-signature"


def test_every_changed_bit_of_the_signature_is_forged(signatures: Signatures) -> None:
    """Those of the text, though the last character has two bits that no byte depends on, and those of the bytes."""
    for bit in range(len(SIGNATURE) * 8):
        text = bytearray(SIGNATURE.encode())
        text[bit // 8] ^= 1 << bit % 8
        assert reason_for(signatures, BODY, [KEY_ID], [text.decode("latin-1")]) in (
            "wrong-signature",
            "malformed-header",
        )
    for bit in range(256):
        digest = bytearray(base64.b64decode(SIGNATURE))
        digest[bit // 8] ^= 1 << bit % 8
        presented = base64.b64encode(digest).decode()
        assert reason_for(signatures, BODY, [KEY_ID], [presented]) == "wrong-signature"


def test_changed_white_space_is_forged(signatures: Signatures) -> None:
    """The same JSON in other bytes was not signed."""
    for body in (
        BODY + b"\n",
        BODY.replace(b"\n", b"\r\n"),
        json.dumps(json.loads(BODY)).encode(),
        b"\xef\xbb\xbf" + BODY,
    ):
        assert reason_for(signatures, body, [KEY_ID], [SIGNATURE]) == "wrong-signature"


@pytest.mark.parametrize(
    ("key_ids", "presented", "reason"),
    [
        ([], [SIGNATURE], "missing-header"),
        ([KEY_ID], [], "missing-header"),
        ([], [], "missing-header"),
        ([KEY_ID, KEY_ID], [SIGNATURE], "doubled-header"),
        ([KEY_ID], [SIGNATURE, SIGNATURE], "doubled-header"),
        ([f"{KEY_ID},{KEY_ID}"], [SIGNATURE], "malformed-header"),
        ([KEY_ID], [f"{SIGNATURE},{SIGNATURE}"], "malformed-header"),
        ([KEY_ID], [f"{SIGNATURE}, {SIGNATURE}"], "malformed-header"),
        ([""], [SIGNATURE], "malformed-header"),
        ([KEY_ID], [""], "malformed-header"),
        ([" "], [SIGNATURE], "malformed-header"),
        ([f" {KEY_ID}"], [SIGNATURE], "malformed-header"),
        ([KEY_ID], [f" {SIGNATURE}"], "malformed-header"),
        ([KEY_ID], [f"{SIGNATURE}\n"], "malformed-header"),
        ([f"{KEY_ID}\n"], [SIGNATURE], "malformed-header"),
        (["k" * 129], [SIGNATURE], "malformed-header"),
        ([KEY_ID], [SIGNATURE * 1000], "malformed-header"),
        ([KEY_ID], [SIGNATURE.rstrip("=")], "malformed-header"),
        ([KEY_ID], [SIGNATURE.replace("/", "_")], "malformed-header"),
        ([KEY_ID], ["ä" + SIGNATURE[1:]], "malformed-header"),
        ([KEY_ID], ["\ud800" + SIGNATURE[1:]], "malformed-header"),
        (["\ud800"], [SIGNATURE], "malformed-header"),
        (["clé"], [SIGNATURE], "malformed-header"),
        ([None], [SIGNATURE], "malformed-header"),
        ([KEY_ID], [None], "malformed-header"),
        ([KEY_ID], [SIGNATURE.encode()], "malformed-header"),
        (["unknown"], [SIGNATURE], "unknown-key"),
        ([KEY_ID.upper()], [SIGNATURE], "unknown-key"),
        (["past"], [SIGNATURE], "expired-key"),
        (["shop"], [SIGNATURE], "wrong-signature"),
    ],
)
def test_odd_headers_are_forged(signatures: Signatures, key_ids: list[Any], presented: list[Any], reason: str) -> None:
    """Each is refused for a reason that logs and metrics can count."""
    assert reason_for(signatures, BODY, key_ids, presented) == reason


@pytest.mark.parametrize("body", [BODY.decode(), None, 7, {"a": 1}])
def test_what_is_no_bytes_is_forged(signatures: Signatures, body: Any) -> None:
    """Whatever the SDK makes of it, the caller learns the one thing."""
    assert reason_for(signatures, body, [KEY_ID], [SIGNATURE]) == "wrong-signature"


def test_an_unknown_key_is_compared_too(signatures: Signatures, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known, unknown or expired: one comparison, so that time does not tell which ids exist."""
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(b)) or compare(a, b))

    for key_id in ("shop", "unknown", "past"):
        reason_for(signatures, BODY, [key_id], [SIGNATURE])

    assert compared == [44, 44, 44]


def test_every_forgery_waits_alike_for_the_keys_to_be_read_again() -> None:
    """Only an unknown id needs it; if the others did not wait too, a slow store would tell which ids exist."""

    class Counted(KeyStore):
        loads = 0

        def load(self) -> Mapping[str, WebhookKey]:
            self.loads += 1
            past = WebhookKey(SecretStr(SECRET), not_after=datetime(2001, 1, 1, tzinfo=UTC))
            return {"known": WebhookKey(SecretStr(SECRET)), "past": past}

    store = Counted()
    ring = KeyRing(store, 60, miss_seconds=0.1)
    signatures = Signatures(ring)
    signatures.verify(BODY, ["known"], [SIGNATURE])

    loads = []
    for key_id in ("unknown", "known", "past"):
        time.sleep(0.15)
        before = store.loads
        reason_for(signatures, b"other", [key_id], [SIGNATURE])
        loads.append(store.loads - before)
    time.sleep(0.15)
    before = store.loads
    signatures.verify(BODY, ["known"], [SIGNATURE])
    ring.close()

    assert loads == [1, 1, 1]
    assert store.loads == before


def test_only_a_genuine_webhook_counts_as_a_use(signatures: Signatures, ring: KeyRing) -> None:
    """Naming a key is no use of it: a forger must not make a dead key look alive."""
    reason_for(signatures, BODY, ["shop"], [SIGNATURE])
    assert list(ring._used) == []

    signatures.verify(BODY, [KEY_ID], [SIGNATURE])

    assert list(ring._used) == [KEY_ID]


def test_a_store_that_is_away_is_no_forgery() -> None:
    """The sender is to try again; a header that cannot be right is refused all the same."""
    ring = KeyRing(Away(), 60)
    signatures = Signatures(ring)

    with pytest.raises(KeyStoreUnavailable):
        signatures.verify(BODY, [KEY_ID], [SIGNATURE])

    assert reason_for(signatures, BODY, ["a b"], [SIGNATURE]) == "malformed-header"
    ring.close()


def test_no_text_shows_signature_or_secret(signatures: Signatures, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal carries its reason only, down to the exceptions behind it."""
    caplog.set_level(logging.DEBUG)
    presented = signed(b"other", SECRET)

    with pytest.raises(Forged) as refusal:
        signatures.verify(BODY, [KEY_ID], [presented])

    assert (refusal.value.__cause__, refusal.value.__context__) == (None, None)
    told = "".join(traceback.format_exception(refusal.value)) + repr(refusal.value) + repr(signatures) + caplog.text
    assert presented not in told
    assert SECRET not in told


def test_verifying_does_not_import_the_platform_client() -> None:
    """The client costs a process 20 MiB and a tenth of a second, and the ingress calls nobody."""
    program = "import sys, ingress.signatures; print([name for name in sys.modules if 'onlinepayments' in name])"

    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert "signature_validator" in modules
    assert "sdk.factory" not in modules
    assert "sdk.client" not in modules
    assert "default_connection" not in modules
