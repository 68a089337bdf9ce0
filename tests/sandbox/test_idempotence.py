"""The same idempotence key again: one effect, the first outcome."""

import threading

import pytest
from onlinepayments.sdk.call_context import CallContext
from onlinepayments.sdk.domain.capture_payment_request import CapturePaymentRequest
from onlinepayments.sdk.idempotence_exception import IdempotenceException
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException


def capture(merchant, payment_id, key, amount=100):
    request, context = CapturePaymentRequest(), CallContext(idempotence_key=key)
    request.amount = amount
    return merchant.payments().capture_payment(payment_id, request, context), context


def operations(control, payment_id):
    return control.truth_of(payment_id)["operations"]


def test_the_same_key_gets_the_first_outcome_even_with_another_payload(control, merchant):
    """Only the replay bears the time of the first request."""
    payment_id = control.create_payments(amount=1000)[0]

    first, first_context = capture(merchant, payment_id, "key-1", 100)
    second, second_context = capture(merchant, payment_id, "key-1", 700)

    assert second.id == first.id
    assert second.capture_output.amount_of_money.amount == 100
    assert first_context.idempotence_request_timestamp is None
    assert isinstance(second_context.idempotence_request_timestamp, int)
    assert [o["amount"] for o in operations(control, payment_id)] == [100]


def test_a_refusal_is_an_outcome_too(control, merchant):
    """The same key is refused again although by now it would be possible."""
    payment_id = control.create_payments(amount=1000)[0]
    with pytest.raises(ValidationException) as first:
        capture(merchant, payment_id, "key-1", 1001)

    with pytest.raises(ValidationException) as second:
        capture(merchant, payment_id, "key-1", 100)

    assert second.value.error_id == first.value.error_id
    assert operations(control, payment_id) == []


def test_a_key_in_progress_is_told_to_wait(control, merchant):
    """409, until the first caller has its answer; then the outcome."""
    payment_id = control.create_payments(amount=1000)[0]
    control.settings(latency_seconds=0.5)
    first = threading.Thread(target=capture, args=(merchant, payment_id, "key-1"))
    first.start()
    while not operations(control, payment_id):
        pass

    with pytest.raises(IdempotenceException) as waiting:
        capture(merchant, payment_id, "key-1")
    first.join()
    _, context = capture(merchant, payment_id, "key-1")

    assert waiting.value.status_code == 409
    assert context.idempotence_request_timestamp is not None
    assert len(operations(control, payment_id)) == 1


def test_one_key_is_for_one_operation(control, merchant):
    """The keys of all operations and payments are one space."""
    here, elsewhere = control.create_payments(2)
    capture(merchant, here, "key-1")

    with pytest.raises(ReferenceException) as failure:
        capture(merchant, elsewhere, "key-1")

    assert failure.value.errors[0].id == "DUPLICATE_REQUEST"
    assert operations(control, elsewhere) == []


def test_a_key_is_forgotten_in_the_end(control, merchant):
    """After that it protects from nothing."""
    payment_id = control.create_payments(amount=1000)[0]
    assert control.settings()["idempotence_seconds"] == 24 * 3600
    control.settings(idempotence_seconds=0)

    capture(merchant, payment_id, "key-1")
    capture(merchant, payment_id, "key-1")

    assert len(operations(control, payment_id)) == 2


def test_merchants_do_not_share_keys(control, merchant, merchant_as):
    """The same text is another key for another merchant."""
    control.add_merchant("other", "other-key", "other-secret")
    here = control.create_payments()[0]
    there = control.create_payments(merchant_id="other")[0]

    capture(merchant, here, "key-1")
    capture(merchant_as(merchant_id="other", key_id="other-key", secret="other-secret"), there, "key-1")

    assert [len(operations(control, each)) for each in (here, there)] == [1, 1]


@pytest.mark.parametrize("key", ["x" * 41])
def test_a_key_that_is_none_is_refused(control, merchant, key):
    """At most forty characters."""
    payment_id = control.create_payments()[0]

    with pytest.raises(ValidationException) as failure:
        capture(merchant, payment_id, key)

    assert failure.value.errors[0].property_name == "X-GCS-Idempotence-Key"
