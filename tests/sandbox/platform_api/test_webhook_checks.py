"""The merchant tries the webhooks out: the key, and the address."""

import hashlib
import hmac
import json
from base64 import b64encode

import pytest
from onlinepayments.sdk.domain.send_test_request import SendTestRequest
from onlinepayments.sdk.domain.validate_credentials_request import ValidateCredentialsRequest
from onlinepayments.sdk.validation_exception import ValidationException

KEY, SECRET = "sandbox-webhook-key", "sandbox-webhook-secret-for-trying-out"


def hashed(secret):
    return b64encode(hmac.digest(secret.encode(), b"", hashlib.sha256)).decode()


@pytest.mark.parametrize(
    ("key", "secret", "result"),
    [
        (KEY, hashed(SECRET), "Valid"),
        (KEY, hashed("another"), "Invalid"),
        ("another", hashed(SECRET), "Invalid"),
        (KEY, SECRET, "Invalid"),
        (KEY, "é", "Invalid"),
    ],
)
def test_credentials_are_told_valid_or_not(merchant, key, secret, result):
    """What is sent is the signature of an empty body, never the secret itself."""
    request = ValidateCredentialsRequest().from_dictionary({"key": key, "secret": secret})

    assert merchant.webhooks().validate_webhook_credentials(request).result == result


def test_the_credentials_are_those_of_the_moment(merchant, control):
    """After a change of keys the old pair is invalid."""
    control.settings(webhooks={"key_id": "new", "secret": "other"})
    request = ValidateCredentialsRequest().from_dictionary({"key": KEY, "secret": hashed(SECRET)})

    assert merchant.webhooks().validate_webhook_credentials(request).result == "Invalid"


def test_a_test_webhook_goes_to_the_address_asked_for(merchant, control, receiver, settled):
    """Signed like any other, of a payment that does not exist, and nowhere but there."""
    control.settings(webhooks={"urls": ["http://127.0.0.1:9/elsewhere"]})

    merchant.webhooks().send_test_webhook(SendTestRequest().from_dictionary({"url": receiver.url}))
    settled()

    headers, body = receiver.received[0]
    event = json.loads(body)
    signature = b64encode(hmac.digest(SECRET.encode(), body, hashlib.sha256)).decode()
    assert len(receiver.received) == 1
    assert (event["type"], event["merchantId"]) == ("payment.test", "sandbox")
    assert event["payment"]["id"] == "9999_9"
    assert event["payment"]["status"] == "AUTHORIZATION_REQUESTED"
    assert event["payment"]["statusOutput"]["statusCode"] == 0
    assert headers["x-gcs-signature"] == signature
    assert control.ledger() == []


@pytest.mark.parametrize("body", [{}, {"url": "invalid-url"}, {"url": "ftp://127.0.0.1/"}, {"url": "http://[x"}])
def test_an_address_that_is_none_is_refused(merchant, body):
    """Nothing is sent."""
    with pytest.raises(ValidationException) as refusal:
        merchant.webhooks().send_test_webhook(SendTestRequest().from_dictionary(body))

    assert refusal.value.errors[0].property_name == "url"
