"""The rival's worker: one task per event, with a session held over the call to the platform."""

import os
from datetime import UTC, datetime

from celery import Celery
from onlinepayments.sdk.communicator_configuration import CommunicatorConfiguration
from onlinepayments.sdk.factory import Factory

from benchmarks.naive.models import Event, Payment, Session

app = Celery("naive", broker=os.environ["NAIVE_BROKER_URL"])
app.conf.task_ignore_result = True
app.conf.task_acks_late = True

#: With one call it does not know what was captured; with three it does as much as payhook.
ASKS_WHAT_MOVED = os.environ["NAIVE_CALLS"] == "3"

client = Factory.create_client_from_configuration(
    CommunicatorConfiguration(
        api_endpoint=os.environ["NAIVE_API_ENDPOINT"],
        api_key_id="sandbox-key",
        secret_api_key="sandbox-secret",
        authorization_type="v1HMAC",
        connect_timeout=5,
        socket_timeout=15,
        max_connections=32,
        integrator="naive",
    )
).merchant("sandbox")


@app.task(autoretry_for=(Exception,), retry_backoff=True)
def process_event(key: int) -> None:
    """Fetch the payment an event is about, and keep what it says."""
    with Session() as session:
        event = session.get_one(Event, key)
        if event.processed_at is not None:
            return
        answer = client.payments().get_payment(event.payment_id)
        if ASKS_WHAT_MOVED:
            client.payments().get_payment_details(event.payment_id)
            client.captures().get_captures(event.payment_id)
        amount = answer.payment_output.amount_of_money
        payment = session.get(Payment, event.payment_id)
        if payment is None:
            payment = Payment(payment_id=event.payment_id)
            session.add(payment)
        payment.status = answer.status
        payment.status_code = answer.status_output.status_code
        payment.amount = amount.amount
        payment.currency = amount.currency_code
        event.processed_at = datetime.now(UTC).replace(tzinfo=None)
        session.commit()
