"""POST /webhooks: the one door the platform knocks on. GET: its verification of the endpoint."""

import logging
import os
import re
import time
from typing import TYPE_CHECKING

import structlog
from flask import Blueprint, Response, abort, current_app, request
from werkzeug.sansio.utils import get_content_length
from werkzeug.wsgi import get_input_stream

from ingress.desk import Desk
from ingress.key_stores import KeyStoreUnavailable
from ingress.signatures import KEY_ID_HEADER, REASONS, SIGNATURE_HEADER, Forged
from worker import logs, tracing
from worker.database import DatabaseUnavailable
from worker.doorbell import EVENTS
from worker.inbox import Kept
from worker.metrics import WEBHOOK_ANSWERS

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

log = structlog.get_logger("payhook.webhooks")

#: Asked on every request: structlog's own answer costs ten times as much.
_LEVEL = logging.getLogger("payhook.webhooks")

webhooks = Blueprint("webhooks", __name__)

#: The platform's largest events are a few KiB; the limit guards memory and the signature's computation.
MOST_BYTES = 256 * 1024

RETRY_SECONDS = 5

VERIFICATION_HEADER = "X-GCS-Webhooks-Endpoint-Verification"

# Asked for once: a label that is looked up costs as much as the count.
_STORED = WEBHOOK_ANSWERS.labels(204, "stored")
_FORGED = {reason: WEBHOOK_ANSWERS.labels(401, reason) for reason in REASONS}
_NO_KEYS, _NO_DATABASE = (WEBHOOK_ANSWERS.labels(503, reason) for reason in ("key-store", "database"))

#: What is echoed was sent by whoever asked: nothing a browser could take for markup.
_ECHOED = re.compile(r"[A-Za-z0-9._~+/=-]{1,256}", re.ASCII)


@webhooks.post("/webhooks", provide_automatic_options=False)
def receive_routed() -> Response:
    """The same by Flask's routing, for an application that has only the blueprint."""
    return receive(current_app.extensions["payhook"], request.environ)


def receive(desk: Desk, environ: "WSGIEnvironment") -> Response:
    """Verify, store, ring, answer.

    Raises:
        HTTPException: what was sent is not even looked at.
    """
    began = time.time_ns()
    body = _body(environ)
    with logs.in_hand(request_id=os.urandom(16).hex()):
        try:
            signed = desk.signatures.verify(body, _header(environ, KEY_ID_HEADER), _header(environ, SIGNATURE_HEADER))
            verified = time.time_ns()
            kept = desk.keep(body, signed)  # committed here; nothing after may fail the answer
        except Forged as forged:
            # Only the server's own word for who it is: a header that says so is the sender's.
            desk.refusals.tell("webhook.forged", forged.reason, security=True, sender=environ.get("REMOTE_ADDR"))
            _FORGED[forged.reason].inc()
            return _answer(401, "unauthorised")  # the same whatever was wrong
        except (KeyStoreUnavailable, DatabaseUnavailable) as error:
            desk.refusals.tell("webhook.not_stored", str(error))
            (_NO_KEYS if isinstance(error, KeyStoreUnavailable) else _NO_DATABASE).inc()
            return unavailable()
        desk.doorbell.ring(EVENTS, kept.due)
        _STORED.inc()
        _tell(kept, began, verified)
        return Response(status=204)


def _tell(kept: Kept, began: int, verified: int) -> None:
    """Of a POST that was answered 204. Not at the usual level: a line costs a third of what the event does, and the
    worker's says the same with the time it was received."""
    if _LEVEL.isEnabledFor(logging.DEBUG) or tracing.is_on:
        hint = kept.hints[0]
        about = {"payment_id": hint.payment_id, "merchant_id": hint.merchant_id, "type": hint.type}
        ms = (time.time_ns() - began) // 1_000_000
        log.debug("webhook.stored", event_keys=kept.event_keys, rung=len(kept.due), answer=204, ms=ms, **about)
        told = {**about, "event_key": kept.event_keys[0]}
        tracing.webhook(kept.body_sha256, is_new=kept.is_new, began=began, verified=verified, **told)


@webhooks.get("/webhooks", provide_automatic_options=False)
def verify_endpoint() -> Response:
    """Say back what the platform sent, which proves the endpoint ours."""
    value = request.headers.get(VERIFICATION_HEADER)
    if value is None or not _ECHOED.fullmatch(value):
        abort(405, valid_methods=["GET", "POST"])
    return _answer(200, value)


def unavailable() -> Response:
    """Not now: the platform sends it again."""
    answer = _answer(503, "try again")
    answer.headers["Retry-After"] = str(RETRY_SECONDS)
    return answer


def _header(environ: "WSGIEnvironment", name: str) -> list[str]:
    """A header's values; of a doubled one the server has made one value."""
    name = f"HTTP_{name.upper().replace('-', '_')}"
    return [environ[name]] if name in environ else []


def _body(environ: "WSGIEnvironment") -> bytes:
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        abort(415)
    if (get_content_length(environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING")) or 0) > MOST_BYTES:
        abort(413)
    body = _at_most_one_byte_more(environ)
    if len(body) > MOST_BYTES:
        abort(413)
    return body


def _at_most_one_byte_more(environ: "WSGIEnvironment") -> bytes:
    """The body to one byte past the limit: a chunked one has no length, and behind gunicorn Flask's own limit would
    cut it short without a word."""
    body, stream = b"", get_input_stream(environ)
    try:
        while len(body) <= MOST_BYTES and (more := stream.read(MOST_BYTES + 1 - len(body))):
            body += more
    except Exception:  # each server has its own for chunks that are none, and for a sender who has left
        abort(400)
    return body


def _answer(status: int, text: str) -> Response:
    return Response(text, status=status, mimetype="text/plain", headers={"X-Content-Type-Options": "nosniff"})
