"""The signature over a request, as the SDK makes it and as others might bend it."""

import time
from email.utils import formatdate
from urllib.parse import urlparse

import pytest
import urllib3
from onlinepayments.sdk.authentication.v1hmac_authenticator import V1HmacAuthenticator
from onlinepayments.sdk.communication.request_header import RequestHeader
from onlinepayments.sdk.communicator_configuration import CommunicatorConfiguration

PATH = "/v2/sandbox/services/testconnection"


def signed(url, *, at=None, extra=()):
    """The SDK's own headers for a GET of this address."""
    configuration = CommunicatorConfiguration(
        api_key_id="sandbox-key",
        secret_api_key="sandbox-secret",
        authorization_type="v1HMAC",
        connect_timeout=1,
        socket_timeout=1,
    )
    headers = [
        RequestHeader("Date", formatdate(at or time.time(), usegmt=True)),
        *(RequestHeader(*pair) for pair in extra),
    ]
    authorization = V1HmacAuthenticator(configuration).get_authorization("GET", urlparse(url), headers)
    return {"Authorization": authorization, **{header.name: header.value for header in headers}}


def get(url, headers):
    answer = urllib3.request("GET", url, headers=headers, retries=False)
    return answer.status, answer.json()


def test_headers_of_the_platform_are_signed_in_order_and_folded(box):
    """x-gcs headers of any case and order, a query in the address: as the SDK signs it."""
    url = f"{box.url}{PATH}?b=2&a=1%20x"

    status, _ = get(
        url, signed(url, extra=[("X-GCS-ServerMetaInfo", "meta"), ("x-gcs-a", " spaced "), ("Other", "no")])
    )

    assert status == 200


@pytest.mark.parametrize("path", [PATH + "?a=1", "/v2/sandbox/payments/1234567890_0", PATH + "/"])
def test_a_tampered_path_is_refused(box, path):
    """The signature of one address does not open another."""
    status, body = get(box.url + path, signed(box.url + PATH))

    assert (status, body["errors"][0]["id"]) == (403, "AUTHENTICATION_FAILURE")


def test_a_tampered_header_is_refused(box):
    """An x-gcs header that was not signed spoils the signature."""
    status, _ = get(box.url + PATH, signed(box.url + PATH) | {"X-GCS-Idempotence-Key": "slipped in"})

    assert status == 403


@pytest.mark.parametrize("late", [-600, 600])
def test_a_clock_that_is_off_is_refused(box, late):
    """The Date may differ by five minutes."""
    status, body = get(box.url + PATH, signed(box.url + PATH, at=time.time() + late))

    assert status == 403
    assert "Date" in body["errors"][0]["message"]


@pytest.mark.parametrize(
    "authorization", ["", "GCS", "GCS v1HMAC:", "GCS v1HMAC:sandbox-key:", "Basic eDp5", "GCS v1HMAC:nobody:c2ln", "é"]
)
def test_an_authorization_that_is_none_is_refused(box, authorization):
    """Whatever stands in the header, the answer is 403 with an error body."""
    status, body = get(box.url + PATH, signed(box.url + PATH) | {"Authorization": authorization})

    assert (status, body["errors"][0]["id"]) == (403, "AUTHENTICATION_FAILURE")


def test_the_new_key_of_a_merchant_voids_the_old_one(box, control):
    """Adding a known merchant changes its key."""
    control.add_merchant("sandbox", "new-key", "new-secret")

    status, _ = get(box.url + PATH, signed(box.url + PATH))

    assert status == 403
