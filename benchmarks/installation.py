"""An installation after years of work, written straight into PostgreSQL: nearly all is done, a few rows of every kind.

Rows are numbered by age. The newest twentieth of the payments is still alive, of all others one in five hundred.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from tests.end_to_end.house import event

#: The events that are not done yet.
WAITING = 1000

#: The tables that grow with what was ever done.
BIG = ("webhook_events", "payments", "movements", "journal", "operations", "attempts")


@dataclass(frozen=True)
class Filled:
    """How many rows there are."""

    events: int = 1_000_000
    payments: int = 300_000
    operations: int = 60_000


def fill(connection: Connection, filled: Filled) -> None:
    """Fill an empty database, and have its statistics taken.

    Args:
        connection: which commits every statement by itself.
        filled: how many rows.
    """
    given = {
        "events": filled.events,
        "payments": filled.payments,
        "operations": filled.operations,
        "waiting": min(WAITING, filled.events // 20),
        "body": event("1_0").decode(),
        "snapshot": '{"id": "1_0", "status": "CAPTURED", "paymentOutput": {"references": {"merchantReference": "o"}}}',
    }
    for statement in (_PAYMENTS, _EVENTS, _OPERATIONS, _ATTEMPTS, _MOVEMENTS, _JOURNAL, _FACTS):
        named = {name: value for name, value in given.items() if f":{name}" in statement}
        connection.execute(text(statement), named)
    connection.execute(text("VACUUM ANALYZE"))
    connection.execute(text("CHECKPOINT"))


_PAYMENTS = r"""
INSERT INTO payments (merchant_id, payment_id, merchant_reference, state, status, status_code, currency,
    amount_authorised, amount_captured, amount_capture_pending, amount_refunded, amount_refund_pending,
    amount_cancelled, snapshot, refreshed_at, changed_at, authorised_at, expires_at, has_operations, wanted, applied,
    claims, failures, rings, due_at, problem)
SELECT CASE WHEN n % 10 = 0 THEN 'other' ELSE 'sandbox' END, (10000000000 + n)::text, 'order-' || n, state,
    upper(state),
    CASE state WHEN 'captured' THEN 9 WHEN 'authorised' THEN 5 WHEN 'refunded' THEN 8 WHEN 'cancelled' THEN 6
        WHEN 'rejected' THEN 2 ELSE 51 END,
    'EUR', CASE WHEN state IN ('pending', 'rejected') THEN 0 ELSE 1000 END,
    CASE WHEN state IN ('captured', 'refunded') THEN 1000 ELSE 0 END, 0,
    CASE WHEN state = 'refunded' THEN 1000 ELSE 0 END, 0, CASE WHEN state = 'cancelled' THEN 1000 ELSE 0 END,
    CAST(:snapshot AS jsonb), at, at, at,
    CASE WHEN state NOT IN ('pending', 'rejected') THEN at + interval '7 days' END,
    n > :payments - :operations, n + 1, CASE WHEN n > :payments - 500 THEN n ELSE n + 1 END, 0,
    CASE WHEN n % 1000 IN (7, 8) THEN 20 ELSE 0 END, 0,
    CASE WHEN n % 1000 = 7 THEN NULL
        WHEN state = 'authorised' THEN now() + n % 3600 * interval '1 second'
        WHEN state = 'pending' THEN now() + n % 900 * interval '1 second'
        WHEN n % 1000 = 8 THEN now() + interval '45 seconds'
        WHEN state = 'captured' AND at > now() - interval '30 days' THEN now() + n % 86400 * interval '1 second' END,
    CASE WHEN n % 1000 IN (7, 8) THEN 'the platform gave no answer: get_payment: HTTP 500' END
FROM (SELECT n, now() - (:payments - n) * (interval '700 days' / :payments) AS at,
    CASE WHEN n > :payments * 0.95 AND n % 3 > 0 THEN 'authorised'
        WHEN n > :payments * 0.95 AND n % 30 = 0 THEN 'pending'
        WHEN n % 500 = 3 THEN 'authorised' WHEN n % 10 = 1 THEN 'refunded' WHEN n % 17 = 2 THEN 'cancelled'
        WHEN n % 25 = 4 THEN 'rejected' ELSE 'captured' END AS state
    FROM generate_series(1, :payments) AS n) AS one
"""
_EVENTS = """
INSERT INTO webhook_events (body, body_sha256, position, merchant_id, event_id, type, payment_id, key_id, received_at,
    deliveries, due_at, done_at, outcome, problem, claims, rings)
SELECT convert_to(:body, 'utf8'), sha256(convert_to(e::text, 'utf8')), 0,
    CASE WHEN n % 10 = 0 THEN 'other' ELSE 'sandbox' END, gen_random_uuid()::text, 'payment.captured',
    (10000000000 + n)::text, 'key', at, 1, CASE WHEN is_open THEN now() + interval '1 day' END,
    CASE WHEN NOT is_open THEN at END,
    CASE WHEN is_open THEN NULL WHEN e % 2500 = 1 THEN 'quarantined' WHEN e % 50 = 2 THEN 'ignored'
        ELSE 'reconciled' END,
    CASE WHEN NOT is_open AND e % 2500 = 1 THEN 'its payment is parked' END, 0, 0
FROM (SELECT e, 1 + CAST(e - 1 AS bigint) * :payments / :events AS n, e > :events - :waiting AS is_open,
    now() - (:events - e) * (interval '700 days' / :events) AS at FROM generate_series(1, :events) AS e) AS one
"""
_OPERATIONS = """
INSERT INTO operations (operation_uuid, merchant_id, payment_id, payment_key, kind, amount, currency, is_final, source,
    request_id, request_sha256, request_body, state, planned_at, idempotence_key, generation, first_sent_at,
    last_sent_at, replayed_5xx, negative_looks, claims, rings, due_at, reason, anomaly, created_at)
SELECT gen_random_uuid()::text, merchant_id, payment_id, payment_key, 'capture', 1000, 'EUR', true,
    CASE WHEN o % 3 = 0 THEN 'policy:capture-when-authorised' ELSE 'shop' END, 'request-' || o,
    sha256(convert_to(o::text, 'utf8')), convert_to('{"amount": 1000}', 'utf8'), of_state, at, 'key-' || o, 1, at, at,
    0, 0, 0, 0,
    CASE WHEN of_state NOT IN ('succeeded', 'refused', 'withdrawn', 'review') THEN now() + interval '1 hour' END,
    CASE WHEN of_state IN ('refused', 'review') THEN 'a person must decide' END,
    CASE WHEN o % 9000 = 17 THEN 'the platform shows a movement all the same' END, at
FROM (SELECT payment_key - :payments + :operations AS o, merchant_id, payment_id, payment_key, changed_at AS at,
    CASE payment_key % 3001 WHEN 1 THEN 'requested' WHEN 2 THEN 'planned' WHEN 3 THEN 'sending' WHEN 4 THEN 'unknown'
        WHEN 5 THEN 'review' WHEN 6 THEN 'withdrawn' WHEN 7 THEN 'accepted' WHEN 8 THEN 'accepted'
        ELSE CASE WHEN payment_key % 100 = 9 THEN 'refused' ELSE 'succeeded' END END AS of_state
    FROM payments WHERE payment_key > :payments - :operations) AS one
"""
_ATTEMPTS = """
INSERT INTO attempts (operation_key, generation, idempotence_key, claim_token, started_at, finished_at, outcome,
    http_status, duration_ms)
SELECT operation_key, 1, idempotence_key, 'token', created_at, created_at, 'done', 201, 150 FROM operations
WHERE state NOT IN ('requested', 'planned', 'withdrawn')
"""
_MOVEMENTS = """
INSERT INTO movements (merchant_id, platform_operation_id, payment_key, operation_key, kind, state, amount, currency,
    status, status_code, first_seen_at, last_seen_at)
SELECT payments.merchant_id, payments.payment_id || '_1', payments.payment_key, operation_key, 'capture', 'done', 1000,
    'EUR', 'CAPTURED', 9, changed_at, changed_at
FROM payments LEFT JOIN operations ON operations.payment_key = payments.payment_key AND operations.state = 'succeeded'
WHERE payments.state IN ('captured', 'refunded')
"""
_JOURNAL = """
INSERT INTO journal (at, actor, subject, subject_id, from_state, to_state, why)
SELECT changed_at, 'worker', 'payment', merchant_id || '/' || payment_id, before, payments.state, 'the platform says so'
FROM payments, (VALUES (NULL), ('authorised')) AS earlier (before)
UNION ALL
SELECT created_at, 'worker', 'operation', operation_key::text, before, operations.state, 'the platform answered'
FROM operations, (VALUES ('requested'), ('planned'), ('sending')) AS earlier (before)
"""
_FACTS = """
INSERT INTO facts (name, value, due_at)
SELECT 'heartbeat:sweep', jsonb_build_object('at', now()), CAST(NULL AS timestamptz)
UNION ALL
SELECT 'budget:' || merchant, jsonb_build_object('looks', extract(epoch FROM now())), NULL
FROM unnest(ARRAY['sandbox', 'other']) AS merchant
"""
