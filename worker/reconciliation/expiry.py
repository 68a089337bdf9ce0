"""Authorisations that run out: when one ends by our reckoning, and when that is to be told.

The platform's answers do not say when an authorisation ends; contracts with the acquirer do, by payment product.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from worker import journal
from worker.lifecycle import PaymentState
from worker.settings import Settings

log = structlog.get_logger("payhook.reconciliation")


def ends_at(payment: Row[Any], seen: Mapping[str, Any], settings: Settings) -> datetime | None:
    """When the authorisation of a payment ends, None when there is none.

    Args:
        payment: as it was recorded; ``at`` is now.
        seen: the columns that replace it.
        settings: days by payment product.
    """
    if seen["amount_authorised"] <= 0:
        return None
    days = settings.authorisation_days
    product = str(seen["snapshot"].get("paymentProductId"))
    authorised_at: datetime = payment.authorised_at or payment.at
    return authorised_at + timedelta(days=days.get(product, days["default"]))


def seconds_to_notice(payment: Row[Any], expires_at: datetime | None, settings: Settings) -> float | None:
    """Seconds until the end is to be told, None when it is past that time."""
    if expires_at is None:
        return None
    seconds = (_notice_at(expires_at, settings) - payment.at).total_seconds()
    return seconds if seconds > 0 else None


def tell(connection: Connection, payment: Row[Any], seen: Mapping[str, Any], settings: Settings) -> None:
    """Write into journal and log that an authorisation is near its end, at the first look that finds it so."""
    expires_at = ends_at(payment, seen, settings)
    left = (
        seen["amount_authorised"] - seen["amount_captured"] - seen["amount_capture_pending"] - seen["amount_cancelled"]
    )
    if expires_at is None or seen["state"] != PaymentState.AUTHORISED or left <= 0:
        return
    notice_at = _notice_at(expires_at, settings)
    if payment.at < notice_at or (payment.refreshed_at is not None and payment.refreshed_at >= notice_at):
        return
    why = f"its authorisation ends about {expires_at:%Y-%m-%d %H:%M} UTC with {left} {seen['currency']} not captured"
    name, state = journal.payment_name(payment.merchant_id, payment.payment_id), seen["state"]
    journal.write(connection, "payment", name, before=state, after=state, why=why)
    log.warning(
        "authorisation.expiring",
        payment_key=payment.payment_key,
        expires_at=expires_at.isoformat(timespec="seconds"),
        amount=left,
        currency=seen["currency"],
    )


def _notice_at(expires_at: datetime, settings: Settings) -> datetime:
    return expires_at - timedelta(seconds=settings.expiry_notice_seconds)
