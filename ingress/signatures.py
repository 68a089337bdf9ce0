"""Tell a genuine webhook from a forged one, by the SDK's own validator."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

from onlinepayments.sdk.communication.request_header import RequestHeader
from onlinepayments.sdk.webhooks.secret_key_store import SecretKeyStore
from onlinepayments.sdk.webhooks.signature_validator import SignatureValidator

from ingress.key_stores.key_ring import KeyRing
from ingress.key_stores.key_store import KEY_ID, KeyStoreUnavailable

SIGNATURE_HEADER = "X-GCS-Signature"
KEY_ID_HEADER = "X-GCS-KeyId"

#: Why a webhook was turned away: for logs and metrics, never for the sender, who gets one answer for all.
Reason = Literal[
    "missing-header", "doubled-header", "malformed-header", "unknown-key", "expired-key", "wrong-signature"
]
REASONS: tuple[Reason, ...] = get_args(Reason)

#: The base64 of 32 bytes. Also refuses what a WSGI server makes of a doubled header: both values, a comma between.
_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{43}=")


class Forged(Exception):
    """The webhook was not signed with a key of ours; its text is the reason and nothing of what was presented."""

    def __init__(self, reason: Reason):
        super().__init__(reason)
        self.reason: Reason = reason


@dataclass(frozen=True)
class Genuine:
    """Which key a webhook was signed with, and the one merchant it speaks for (None: any of ours)."""

    key_id: str
    merchant_id: str | None


class Signatures:
    """Verifies webhooks with the keys of a ring."""

    def __init__(self, ring: KeyRing):
        self._ring = ring
        self._dummy = secrets.token_urlsafe(32)
        self._nobody = secrets.token_hex(32)

    def verify(self, body: bytes, key_ids: Sequence[str], signatures: Sequence[str]) -> Genuine:
        """Whose webhook this is.

        Args:
            body: the exact bytes received.
            key_ids: every ``X-GCS-KeyId`` header there was.
            signatures: every ``X-GCS-Signature`` header there was.

        Raises:
            Forged: nobody's.
            KeyStoreUnavailable: the key is not known, and the store cannot be asked.
        """
        key_id, signature = presented(key_ids, signatures)
        key = self._ring.find(key_id)
        # An unknown key costs the same comparison: how long the answer takes must not tell which ids exist.
        secret = self._dummy if key is None else key.secret.get_secret_value()
        signed = _is_signed(body, key_id, signature, secret)
        if key is None or not signed:
            # Now and then an unknown id waits for the keys to be read again: so must every other that is refused.
            with suppress(KeyStoreUnavailable):
                self._ring.find(self._nobody)
            raise Forged(self._why(key_id, known=key is not None))
        self._ring.used(key_id)
        return Genuine(key_id, key.merchant_id)

    def _why(self, key_id: str, known: bool) -> Reason:
        if self._ring.knows_expired(key_id):
            return "expired-key"
        return "wrong-signature" if known else "unknown-key"


class _OneSecret(SecretKeyStore):  # type: ignore[misc]  # the SDK has no types
    """The key already found, as the SDK wants to be handed it."""

    def __init__(self, secret: str):
        self._secret = secret

    def get_secret_key(self, key_id: str) -> str:
        return self._secret


def signature_of(body: bytes, secret: bytes) -> str:
    """As the platform signs: base64 of the HMAC-SHA256 over the exact bytes. To sign with, and to tell why one does
    not hold; what comes in is judged by the SDK's validator."""
    return base64.b64encode(hmac.digest(secret, body, hashlib.sha256)).decode()


def presented(key_ids: Sequence[str], signatures: Sequence[str]) -> tuple[str, str]:
    """Key id and signature as the headers have them.

    Raises:
        Forged: one is missing, doubled or malformed.
    """
    return _one(key_ids, KEY_ID), _one(signatures, _SIGNATURE)


def _one(values: Sequence[str], form: re.Pattern[str]) -> str:
    if not values:
        raise Forged("missing-header")
    if len(values) > 1:
        raise Forged("doubled-header")
    if not isinstance(values[0], str) or not form.fullmatch(values[0]):
        raise Forged("malformed-header")
    return values[0]


def _is_signed(body: bytes, key_id: str, signature: str, secret: str) -> bool:
    headers = [RequestHeader(KEY_ID_HEADER, key_id), RequestHeader(SIGNATURE_HEADER, signature)]  # takes no other type
    try:
        SignatureValidator(_OneSecret(secret)).validate(body, headers)
    except Exception:  # whatever odd input makes of it; its text quotes the signature, so it is not carried on
        return False
    return True
