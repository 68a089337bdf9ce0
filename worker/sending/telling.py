"""What is said while an operation is sent: its ids on every line, and the trace of what it followed from."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from worker import logs, tracing
from worker.operations.moves import ids_of
from worker.sending.claim import Claim

log = structlog.get_logger("payhook.sending")


@contextmanager
def telling(claim: Claim) -> Iterator[None]:
    """Whatever is said meanwhile is about the operation claimed, and follows from what it was promised by."""
    ids = ids_of(claim.operation)
    with (
        logs.in_hand(**ids),
        tracing.span("send", traceparent=claim.operation.trace, kind=claim.order.kind.value, **ids),
    ):
        log.debug("operation.claimed", claims=claim.operation.claims + 1, generation=claim.operation.generation)
        yield
