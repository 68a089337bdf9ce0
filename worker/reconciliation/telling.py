"""What is said while a payment is looked at: its ids on every line, and the look's place in a trace."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from worker import logs, tracing
from worker.reconciliation.claims import Claim

log = structlog.get_logger("payhook.reconciliation")


@contextmanager
def telling(claim: Claim) -> Iterator[None]:
    """Whatever is said meanwhile is about the payment claimed, and follows from the first of the events it answers."""
    payment, events = claim.payment, claim.events
    ids = {"payment_key": payment.payment_key, "payment_id": payment.payment_id, "merchant_id": payment.merchant_id}
    of_events = {}
    if events:
        received_at = min(event.received_at for event in events).isoformat()
        of_events = {"event_keys": list(claim.event_keys), "received_at": received_at}
    began = time.time_ns() - int((time.monotonic() - claim.started) * 1e9)
    follows = [event.body_sha256 for event in events]
    with logs.in_hand(**ids, **of_events), tracing.span("look", events=follows, began=began, **ids):
        tracing.done("claim", began=began)
        log.debug("payment.claimed", claims=payment.claims, wanted=payment.wanted)
        yield
