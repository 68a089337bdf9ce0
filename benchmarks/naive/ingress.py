"""The rival's ingress: verify and unmarshal with the SDK, add a row through a session, call `delay()`."""

import os

from flask import Flask, Response, request
from onlinepayments.sdk.communication.request_header import RequestHeader
from onlinepayments.sdk.json.default_marshaller import DefaultMarshaller
from onlinepayments.sdk.webhooks.in_memory_secret_key_store import InMemorySecretKeyStore
from onlinepayments.sdk.webhooks.signature_validation_exception import SignatureValidationException
from onlinepayments.sdk.webhooks.webhooks_helper import WebhooksHelper
from sqlalchemy.exc import IntegrityError

from benchmarks.naive.models import Event, Session
from benchmarks.naive.tasks import process_event

keys = InMemorySecretKeyStore.instance()
keys.store_secret_key(os.environ["NAIVE_KEY_ID"], os.environ["NAIVE_SECRET"])
helper = WebhooksHelper(DefaultMarshaller.instance(), keys)
app = Flask(__name__)


@app.post("/webhooks")
def receive() -> Response:
    body = request.get_data()
    try:
        event = helper.unmarshal(body, [RequestHeader(name, value) for name, value in request.headers.items()])
    except SignatureValidationException:
        return Response(status=401)
    with Session() as session:
        row = Event(event_id=event.id, type=event.type, payment_id=event.payment.id, body=body.decode())
        session.add(row)
        try:
            session.commit()
        except IntegrityError:  # sent again
            return Response(status=204)
        process_event.delay(row.id)
    return Response(status=204)


@app.get("/health/live")
def live() -> str:
    return "ok"
