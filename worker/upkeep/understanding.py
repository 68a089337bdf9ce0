"""Events that could not be understood are understood again when payhook's version has changed."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from sqlalchemy import select

from worker.models import WebhookEvent
from worker.replay import BATCH, Admission, key_merchants, replay
from worker.upkeep.job import Done, Tools

#: How often it is seen whether the version has changed.
LOOK_SECONDS = 3600.0

#: Between two batches.
PAUSE_SECONDS = 1.0


def run_once(tools: Tools, state: Mapping[str, Any]) -> Done:
    """Understand a batch of them, in the order in which they came; nothing when this version has done so already.

    What has a payment id was understood, and is quarantined for another reason, which a person decides.
    """
    ours = version("payhook")
    if state.get("version") == ours:
        return Done(LOOK_SECONDS, state=state)
    after = state.get("after", 0) if state.get("for") == ours else 0
    quarantined = (
        select(WebhookEvent.event_key)
        .where(WebhookEvent.outcome == "quarantined", WebhookEvent.payment_id.is_(None))
        .where(WebhookEvent.event_key > after)
        .order_by(WebhookEvent.event_key)
        .limit(BATCH)
    )
    with tools.database.reading() as connection:
        event_keys = list(connection.execute(quarantined).scalars())
        admission = Admission(frozenset(tools.gateways), key_merchants(connection))
    if not event_keys:
        return Done(LOOK_SECONDS, state={"version": ours})
    replayed = replay(
        tools.database,
        event_keys,
        admission,
        gap_seconds=tools.settings.gap_seconds,
        why=f"understood again by payhook {ours}",
    )
    return Done(
        PAUSE_SECONDS,
        counts={"events": len(event_keys), "due": replayed.due},
        state={**state, "for": ours, "after": event_keys[-1]},
        payment_keys=replayed.payment_keys,
    )
