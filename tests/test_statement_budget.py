"""How many SQL statements an event costs, from its POST to the stored snapshot."""

import base64
import hashlib
import hmac
from pathlib import Path

from flask.testing import FlaskClient

from ingress import create_app
from ingress.desk import open_desk
from sandbox import Sandbox
from tests.end_to_end.house import KEY_ID, SECRET
from tests.end_to_end.house import event as body_of
from worker.database import migrate, open_database
from worker.gateways import open_gateways
from worker.reconciliation import Reconciler
from worker.settings import Settings

BUDGET = 8

#: To take slots of the merchant's budget and to learn of circuits; under load they serve dozens of events.
SHARED = 3


def test_an_event_costs_at_most_eight_statements(database_url: str, statements: list[str], tmp_path: Path) -> None:
    """A first event of a captured payment, with a movement and a journal line: eight statements, one in the request."""
    migrate(database_url)
    with Sandbox() as box:
        settings = settings_for(box, database_url)
        desk = open_desk(settings)
        client = create_app(settings, desk).test_client()
        database = open_database(settings, threads=2, seconds=5)
        reconciler = Reconciler(database, open_gateways(settings), settings)
        (first, payment_id) = box.client().create_payments(2, sale=True, webhooks=False)
        post(client, body_of(first))
        reconciler.event(1)  # the pools are warm, the revision is checked

        statements.clear()
        answer = post(client, body_of(payment_id))
        in_request = len(statements)
        reconciler.event(2)
        counted = [statement for statement in statements if not statement.startswith("BEGIN")]

    desk.ring.close()
    desk.database.close()
    database.close()

    assert answer == 204
    assert [statement for statement in statements[:in_request] if not statement.startswith("BEGIN")] == counted[:1]
    shared = [statement for statement in counted if " facts" in statement]
    assert len(counted) - len(shared) <= BUDGET, "\n".join(counted)
    assert len(shared) <= SHARED, "\n".join(shared)


def settings_for(box: Sandbox, database_url: str) -> Settings:
    return Settings(
        database_url=database_url,
        key_store="memory:",
        webhook_keys=f"{KEY_ID}={SECRET}",
        merchant_id="sandbox",
        api_key_id="sandbox-key",
        api_secret="sandbox-secret",
        api_endpoint=box.url,
    )


def post(client: FlaskClient, body: bytes) -> int:
    signature = base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()
    return client.post(
        "/webhooks", data=body, headers={"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": signature}
    ).status_code
