"""Payments that our record and the platform agree on, and a comparison that need not wait for replicas."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.worker.conftest import MERCHANT, Deliver, FakePlatform, Paper, moved, view_of
from worker.database import Database
from worker.drift import Compared, Comparer, comparing
from worker.gateways.gateway import PaymentView
from worker.lifecycle import MovementKind
from worker.reconciliation import Reconciler
from worker.settings import Settings
from worker.traffic import Traffic

PAYMENT = "3254564310"
CAPTURED = view_of(PAYMENT, moved(f"{PAYMENT}_1", MovementKind.CAPTURE, 1000), code=9, acquired=1000)

Know = Callable[..., int]
Compare = Callable[..., list[Compared]]


@pytest.fixture(autouse=True)
def _replicas_are_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "LAG_SECONDS", 0.05)


@pytest.fixture
def know(reconciler: Reconciler, platform: FakePlatform, deliver: Deliver, paper: Paper) -> Know:
    """Makes a payment known as the platform has it; its key."""

    def know(view: PaymentView = CAPTURED) -> int:
        platform.truth[view.payment_id] = view
        reconciler.event(deliver(view.payment_id)[0])
        payment = paper.payment(view.payment_id)
        assert payment.refreshed_at is not None
        return int(payment.payment_key)

    return know


@pytest.fixture
def compare(database: Database, platform: FakePlatform, settings: Settings) -> Compare:
    def compare(payment_keys: Iterable[int], **given: Any) -> list[Compared]:
        comparer = Comparer(database, {MERCHANT: platform}, settings, Traffic(database, settings), **given)
        return sorted(comparer.compare(payment_keys), key=lambda one: one.payment.payment_key)

    return compare
