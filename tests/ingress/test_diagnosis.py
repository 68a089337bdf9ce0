"""Why a signature does not hold: found out by undoing what is usually done to webhooks."""

import base64
import gzip
import hashlib
import hmac
import json
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from ingress.diagnosis import CHANGES, diagnose
from ingress.key_stores import WebhookKey

SECRET = "dGhpcyBpcyBhIHNlY3JldA=="
KEY = WebhookKey(SecretStr(SECRET))
BODY = '{"id":"1","type":"payment.captured","payment":{"name":"Käse/Brot","amount":100}}'.encode()


def sign(body: bytes, secret: bytes = SECRET.encode()) -> str:
    return base64.b64encode(hmac.digest(secret, body, hashlib.sha256)).decode()


def headers(signature: str, key_id: str = "key-1") -> list[tuple[str, str]]:
    return [("Content-Type", "application/json"), ("x-gcs-keyid", key_id), ("X-GCS-Signature", signature)]


def test_a_genuine_webhook_is_said_to_be_one() -> None:
    """With the store's key of that id, or with the one secret given, whatever the id."""
    assert diagnose(BODY, headers(sign(BODY)), {"key-1": KEY}).reason == "genuine"
    verdict = diagnose(BODY, headers(sign(BODY)), KEY)

    assert verdict.holds
    assert verdict.key_id == "key-1"


@pytest.mark.parametrize(
    ("received", "sent", "told"),
    [
        (BODY + b"\n", BODY, "a line end was added at its end"),
        (BODY, BODY + b"\n", "the line end at its end was taken away"),
        (BODY + b"\r\n", BODY, "a line end (CRLF) was added at its end"),
        (b'{\n"a":1}', b'{\r\n"a":1}', "its line ends were changed from CRLF to LF"),
        (b'{\r\n"a":1}', b'{\n"a":1}', "its line ends were changed from LF to CRLF"),
        (b"\xef\xbb\xbf" + BODY, BODY, "a byte order mark was put before it"),
        (BODY, b"\xef\xbb\xbf" + BODY, "the byte order mark before it was taken away"),
        (json.dumps(json.loads(BODY), ensure_ascii=False).encode(), BODY, "its JSON was parsed and written anew"),
        (json.dumps(json.loads(BODY), indent=2).encode(), BODY, "its JSON was parsed and written anew"),
        (BODY.replace(b"/", rb"\/"), BODY, "its slashes were given backslashes"),
        (gzip.compress(BODY, mtime=0), BODY, "it was compressed (gzip)"),
        (zlib.compress(BODY), BODY, "it was compressed (zlib)"),
        (base64.b64encode(BODY), BODY, "it was encoded in base64"),
        (BODY.decode("latin-1").encode(), BODY, "UTF-8 was taken for Latin-1 and encoded again"),
        (b"\xef\xbb\xbf" + BODY + b"\n", BODY, "a byte order mark was put before it, then a line end was added"),
    ],
)
def test_a_changed_body_is_told_with_what_was_done_to_it(received: bytes, sent: bytes, told: str) -> None:
    """Each usual change alone, and two of them together."""
    verdict = diagnose(received, headers(sign(sent)), {"key-1": KEY})

    assert not verdict.holds
    assert verdict.reason == "body-changed"
    assert f": {told}" in verdict.told


@pytest.mark.parametrize("what", CHANGES)
def test_no_change_is_listed_that_undoes_nothing(what: str) -> None:
    """Each turns some body into another one."""
    texts = [BODY, BODY + b"\r\n", b"\xef\xbb\xbf" + BODY, json.dumps(json.loads(BODY)).encode(), b' {"a": "/"}\n']
    texts += [BODY.replace(b"/", rb"\/"), gzip.compress(BODY), zlib.compress(BODY), base64.b64encode(BODY)]
    texts += [zlib.compress(BODY)[2:-4], BODY.decode("latin-1").encode(), b'{"a":\r\n"\xc3\xa4"}']

    def changes(text: bytes) -> bool:
        try:
            return CHANGES[what](text) != text
        except (ValueError, OSError, zlib.error):
            return False

    assert any(changes(text) for text in texts)


def test_a_body_that_was_changed_beyond_recognition_is_not_explained() -> None:
    """It says what is known: either the secret or the body."""
    verdict = diagnose(BODY.replace(b"100", b"999"), headers(sign(BODY)), {"key-1": KEY})

    assert verdict.reason == "wrong-signature"
    assert "another secret, or the body was changed" in verdict.told


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (SECRET.encode() + b"\n", "this one with a line end after it"),
        (base64.b64decode(SECRET), "this one decoded from base64"),
        (base64.b64encode(SECRET.encode()), "this one encoded in base64"),
    ],
)
def test_a_secret_that_was_mangled_is_told(secret: bytes, told: str) -> None:
    """The body is as it was; what differs is what the sender takes for the secret."""
    verdict = diagnose(BODY, headers(sign(BODY, secret)), {"key-1": KEY})

    assert verdict.reason == "wrong-secret"
    assert told in verdict.told


def test_an_unknown_key_is_told_with_the_known_ones() -> None:
    """And with the one that really signed it, if it is one of ours."""
    other = WebhookKey(SecretStr("another"))

    unknown = diagnose(BODY, headers(sign(BODY), "key-9"), {"key-2": other})
    misnamed = diagnose(BODY, headers(sign(BODY), "key-9"), {"key-1": KEY, "key-2": other})
    exchanged = diagnose(BODY, headers(sign(BODY), "key-2"), {"key-1": KEY, "key-2": other})

    assert unknown.reason == misnamed.reason == "unknown-key"
    assert "known are key-2. Add it with: payhook keys add key-9" in unknown.told
    assert "The signature is that of key-1" in misnamed.told
    assert exchanged.reason == "wrong-secret"
    assert "signed with the secret of key-1" in exchanged.told


def test_an_expired_key_is_told_with_its_end() -> None:
    """The signature holds all the same."""
    ended = datetime.now(UTC) - timedelta(hours=1)
    verdict = diagnose(BODY, headers(sign(BODY)), {"key-1": WebhookKey(SecretStr(SECRET), not_after=ended)})

    assert (verdict.holds, verdict.reason) == (False, "expired-key")
    assert str(ended) in verdict.told


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([("X-GCS-KeyId", "key-1")], "missing-header"),
        ([("X-GCS-Signature", sign(BODY))], "missing-header"),
        ([*headers(sign(BODY)), ("X-GCS-KEYID", "key-1")], "doubled-header"),
        (headers("not base64 of 32 bytes"), "malformed-header"),
        (headers(sign(BODY), "key 1"), "malformed-header"),
    ],
)
def test_headers_that_are_wrong_are_told(given: list[tuple[str, str]], reason: str) -> None:
    """Under the same words as the ingress uses in its log."""
    verdict = diagnose(BODY, given, {"key-1": KEY})

    assert (verdict.holds, verdict.reason) == (False, reason)
    assert "X-GCS-" in verdict.told


def test_no_verdict_shows_a_secret() -> None:
    """What is printed may be pasted into a ticket."""
    for body, secret in ((BODY, SECRET.encode()), (BODY + b"\n", SECRET.encode()), (BODY, b"x"), (b"x", b"y")):
        told = diagnose(body, headers(sign(BODY, secret)), {"key-1": KEY}).told
        assert SECRET not in told
        assert base64.b64decode(SECRET).decode() not in told


def test_a_bomb_is_not_unpacked_whole() -> None:
    """What decompresses to more than any webhook has is cut there."""
    bomb = gzip.compress(b"0" * 200_000_000, compresslevel=9)

    assert diagnose(bomb, headers(sign(BODY)), KEY).reason == "wrong-signature"
