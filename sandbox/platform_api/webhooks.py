"""Webhooks, tried out: whether the merchant holds the right key, and whether an address works."""

import hashlib
import hmac
from base64 import b64encode
from urllib.parse import urlsplit

from sandbox.calls import Call, Reply
from sandbox.ledger import Ledger

LONGEST = 325


def validate_webhook_credentials(ledger: Ledger, call: Call) -> Reply:
    """The secret itself is not sent: only the signature it gives to an empty body."""
    form = call.form
    key, presented = form.required_text("key", LONGEST), form.required_text("secret", LONGEST)
    form.check()
    webhooks = ledger.settings.webhooks
    expected = b64encode(hmac.digest(webhooks.secret.encode(), b"", hashlib.sha256))
    valid = key == webhooks.key_id and hmac.compare_digest(expected, presented.encode())
    return 200, {"result": "Valid" if valid else "Invalid"}


def send_test_webhook(ledger: Ledger, call: Call) -> Reply:
    form = call.form
    url = form.required_text("url", LONGEST)
    if url and not _is_address(url):
        form.wrong("url", "an address that starts with https:// or http:// is expected")
    form.check()
    ledger.send_test(call.merchant_id, url)
    return 204, None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)
