"""Who is calling: merchants, and the platform's v1HMAC signature over each request."""

import hashlib
import hmac
import re
import time
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import lru_cache

from sandbox.refusals import Refused
from sandbox.wire import Request

CLOCK_SKEW_SECONDS = 300  # the platform refuses requests whose Date is further away
SCHEME = "GCS v1HMAC:"
FOLDED_LINE = re.compile(r"\r?\n(?:(?![\r\n])\s)*")


@dataclass(frozen=True, slots=True)
class Merchant:
    id: str
    api_key_id: str
    api_secret: str


DEFAULT_MERCHANT = Merchant("sandbox", "sandbox-key", "sandbox-secret")


class Merchants:
    """The merchants there are. An API key belongs to one merchant."""

    def __init__(self, merchants: Iterable[Merchant]):
        self.restore(merchants)

    def restore(self, merchants: Iterable[Merchant]) -> None:
        self._by_id = {merchant.id: merchant for merchant in merchants}
        self._by_key = {merchant.api_key_id: merchant for merchant in self._by_id.values()}

    def all(self) -> list[Merchant]:
        return list(self._by_id.values())

    def knows(self, merchant_id: str) -> bool:
        return merchant_id in self._by_id

    def add(self, merchant: Merchant) -> None:
        """A known id gets the new key; the old one is void at once."""
        holder = self._by_key.get(merchant.api_key_id)
        if holder is not None and holder.id != merchant.id:
            raise Refused(400, "INVALID_VALUE", "50001111", f"api_key_id belongs to merchant {holder.id}", "api_key_id")
        before = self._by_id.get(merchant.id)
        if before is not None:
            del self._by_key[before.api_key_id]
        self._by_id[merchant.id] = merchant
        self._by_key[merchant.api_key_id] = merchant

    def authenticate(self, request: Request, merchant_id: str) -> None:
        """Refuse the request unless the merchant it names has signed it."""
        presented = request.headers.get("authorization", "")
        key_id, _, signature = presented.removeprefix(SCHEME).rpartition(":")
        caller = self._by_key.get(key_id)
        if caller is None or not presented.startswith(SCHEME):
            raise authentication_failure("no known API key in Authorization")
        expected = signature_of(request, caller.api_secret)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise authentication_failure("the signature does not match the request")
        if abs(time.time() - _timestamp(request.headers.get("date", ""))) > CLOCK_SKEW_SECONDS:
            raise authentication_failure("the Date header is missing, malformed or too far from the present")
        if caller.id != merchant_id:
            raise Refused(403, "ACCESS_TO_MERCHANT_NOT_ALLOWED", "9007", f"no access to merchant {merchant_id}")


def authentication_failure(message: str) -> Refused:
    return Refused(403, "AUTHENTICATION_FAILURE", "40001134", message)


def signature_of(request: Request, secret: str) -> str:
    """Over method, content type, date, the ``x-gcs`` headers in order, path and query; the body is not covered."""
    headers = request.headers
    signed = [
        f"{name}:{FOLDED_LINE.sub(' ', headers[name]).strip()}\n"
        for name in sorted(headers)
        if name.startswith("x-gcs")
    ]
    text = (
        f"{request.method}\n{headers.get('content-type', '')}\n{headers.get('date', '')}\n"
        f"{''.join(signed)}{request.target}\n"
    )
    return b64encode(hmac.digest(secret.encode(), text.encode(), hashlib.sha256)).decode()


@lru_cache(maxsize=16)  # every call of one second carries the same text
def _timestamp(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0.0
