"""Why a webhook's signature does not hold: what was left out, which key it is, what happened to the body on the way."""

import base64
import binascii
import codecs
import hmac
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingress.key_stores.key_store import WebhookKey
from ingress.signatures import KEY_ID_HEADER, SIGNATURE_HEADER, Forged, presented, signature_of

#: How many changes in a row are tried: one is usual, two happen (a BOM and other line ends); each more costs tenfold.
DEPTH = 2

#: A decompressed body is not made longer than this, in bytes.
MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Verdict:
    """Whether the signature holds; if not, a word for programs and a sentence for people. Never a secret."""

    holds: bool
    reason: str
    told: str
    key_id: str | None = None


def diagnose(body: bytes, headers: Sequence[tuple[str, str]], keys: Mapping[str, WebhookKey] | WebhookKey) -> Verdict:
    """Say whether the webhook is genuine and, if not, why.

    Args:
        body: the bytes as they were received.
        headers: every header, in the order received, doubled ones twice.
        keys: the keys there are; or one, whatever its id.
    """
    try:
        key_id, signature = presented(_all(headers, KEY_ID_HEADER), _all(headers, SIGNATURE_HEADER))
    except Forged as forged:
        return Verdict(False, forged.reason, _HEADERS[forged.reason])
    known = {key_id: keys} if isinstance(keys, WebhookKey) else keys
    key = known.get(key_id)
    if key is not None and _matches(body, signature, _secret(key)):
        return _right_key(key_id, key)
    if key is None:
        return _unknown_key(body, signature, key_id, known)
    return (
        _other_secret(body, signature, key_id, key, known) or _changed(body, signature, key_id, key) or _no_idea(key_id)
    )


def _right_key(key_id: str, key: WebhookKey) -> Verdict:
    if key.expired():
        told = (
            f"the signature is that of {key_id}, which has expired ({key.not_after}); give it a later end or sign anew"
        )
        return Verdict(False, "expired-key", told, key_id)
    return Verdict(True, "genuine", f"the signature holds: signed with {key_id}, the body is as it was sent", key_id)


def _unknown_key(body: bytes, signature: str, key_id: str, known: Mapping[str, WebhookKey]) -> Verdict:
    told = f"there is no key {key_id}; known are {', '.join(sorted(known)) or 'none'}"
    signer = _signer(body, signature, known)
    if signer is not None:
        told += f". The signature is that of {signer}: is the id wrong in the portal?"
    else:
        told += f". Add it with: payhook keys add {key_id}"
    return Verdict(False, "unknown-key", told, key_id)


def _other_secret(
    body: bytes, signature: str, key_id: str, key: WebhookKey, known: Mapping[str, WebhookKey]
) -> Verdict | None:
    signer = _signer(body, signature, known)
    if signer is not None:
        told = f"the webhook names {key_id} and is signed with the secret of {signer}: their secrets are exchanged"
        return Verdict(False, "wrong-secret", told, key_id)
    for what, secret in _secrets(_secret(key)):
        if _matches(body, signature, secret):
            told = f"the body is as it was sent, but the sender's secret is {what}: make both the same"
            return Verdict(False, "wrong-secret", told, key_id)
    return None


def _changed(body: bytes, signature: str, key_id: str, key: WebhookKey) -> Verdict | None:
    for what, original in _originals(body):
        if _matches(original, signature, _secret(key)):
            told = f"the body was changed on the way: {what}. The signature is over the exact bytes that were sent"
            return Verdict(False, "body-changed", told, key_id)
    return None


def _no_idea(key_id: str) -> Verdict:
    told = (
        f"not signed with the secret of {key_id} over this body: either the sender has another secret, "
        "or the body was changed in a way that is not among those tried"
    )
    return Verdict(False, "wrong-signature", told, key_id)


def _matches(body: bytes, signature: str, secret: bytes) -> bool:
    return hmac.compare_digest(signature_of(body, secret), signature)


def _signer(body: bytes, signature: str, known: Mapping[str, WebhookKey]) -> str | None:
    return next((key_id for key_id, key in known.items() if _matches(body, signature, _secret(key))), None)


def _secret(key: WebhookKey) -> bytes:
    return key.secret.get_secret_value().encode()


def _all(headers: Sequence[tuple[str, str]], name: str) -> list[str]:
    return [value for given, value in headers if given.lower() == name.lower()]


_HEADERS = {
    "missing-header": f"{KEY_ID_HEADER} or {SIGNATURE_HEADER} is missing: a proxy dropped it, or it is no webhook",
    "doubled-header": f"{KEY_ID_HEADER} or {SIGNATURE_HEADER} is there twice: one of them was added on the way",
    "malformed-header": f"{KEY_ID_HEADER} is no key id, or {SIGNATURE_HEADER} is not the base64 of 32 bytes",
}


def _secrets(secret: bytes) -> Iterator[tuple[str, bytes]]:
    """What a sender may have made of the same secret."""
    yield "this one with a line end after it", secret + b"\n"
    yield "this one with a line end (CRLF) after it", secret + b"\r\n"
    for what, decode in (("base64", base64.b64decode), ("hexadecimal", binascii.unhexlify)):
        try:
            yield f"this one decoded from {what}", decode(secret)
        except ValueError:
            continue
    yield "this one encoded in base64", base64.b64encode(secret)


def _originals(body: bytes) -> Iterator[tuple[str, bytes]]:
    """What may have been sent, with what was done to it: each change undone alone, then two of them."""
    seen = {body}
    reached: list[tuple[tuple[str, ...], bytes]] = [((), body)]
    for _ in range(DEPTH):
        start, reached = reached, []
        for changes, changed in start:
            for what, undo in CHANGES.items():
                original = _undone(undo, changed)
                if original is not None and original not in seen:
                    seen.add(original)
                    reached.append(((what, *changes), original))
                    yield ", then ".join(reached[-1][0]), original


def _undone(undo: Callable[[bytes], bytes], body: bytes) -> bytes | None:
    try:
        return undo(body)
    except (ValueError, OSError, EOFError, zlib.error, RecursionError):
        return None


def _recoded(body: bytes, **how: object) -> bytes:
    if body != body.strip():
        raise ValueError  # what stands around it is a change of its own, which is told more exactly
    return json.dumps(json.loads(body.decode()), **how).encode()  # type: ignore[arg-type]


def _without(end: bytes) -> Callable[[bytes], bytes]:
    def undo(body: bytes) -> bytes:
        if not body.endswith(end):
            raise ValueError
        return body[: -len(end)]

    return undo


def _inflated(wbits: int) -> Callable[[bytes], bytes]:
    return lambda body: zlib.decompressobj(wbits).decompress(body, MOST_BYTES)


COMPACT = (",", ":")

#: What is done to bodies on the way, and how to undo it. The order is that of likelihood: the first that fits is told.
CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a line end was added at its end": _without(b"\n"),
    "a line end (CRLF) was added at its end": _without(b"\r\n"),
    "the line end at its end was taken away": lambda body: body + b"\n",
    "the line end (CRLF) at its end was taken away": lambda body: body + b"\r\n",
    "its line ends were changed from CRLF to LF": lambda body: body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
    "its line ends were changed from LF to CRLF": lambda body: body.replace(b"\r\n", b"\n"),
    "a byte order mark was put before it": lambda body: body.removeprefix(codecs.BOM_UTF8),
    "the byte order mark before it was taken away": lambda body: codecs.BOM_UTF8 + body,
    "its slashes lost their backslashes": lambda body: body.replace(b"/", rb"\/"),
    "its slashes were given backslashes": lambda body: body.replace(rb"\/", b"/"),
    "its JSON was parsed and written anew": lambda body: _recoded(body, separators=COMPACT, ensure_ascii=False),
    "its JSON was parsed and written anew, with other escapes": lambda body: _recoded(body, separators=COMPACT),
    "its JSON was parsed and written anew without spaces": lambda body: _recoded(body, ensure_ascii=False),
    "its JSON was parsed and written anew without indentation": lambda b: _recoded(b, indent=4, ensure_ascii=False),
    "its JSON was parsed and written anew without its indentation": lambda b: _recoded(b, indent=2, ensure_ascii=False),
    "it was compressed (gzip)": _inflated(zlib.MAX_WBITS + 16),
    "it was compressed (zlib)": _inflated(zlib.MAX_WBITS),
    "it was compressed (deflate)": _inflated(-zlib.MAX_WBITS),
    "it was encoded in base64": lambda body: base64.b64decode(body, validate=True),
    "UTF-8 was taken for Latin-1 and encoded again": lambda body: body.decode("utf-8").encode("latin-1"),
    "it was changed from Latin-1 to UTF-8": lambda body: body.decode("latin-1").encode("utf-8"),
    "white space was added around it": lambda body: body.strip(),
}
