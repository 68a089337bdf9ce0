"""No card number is in a line, whoever said it; ids are, though they may look like one."""

from pathlib import Path

import pytest

from tests.worker.logs.test_logs import lines_of, records_of

CARD = "5454545454545454"
MASKED = "545454******5454"

#: A payment's id of each length that passes a card's checksum.
LIKE_CARDS = ["3254564310035", "5454545454545454", "7980240105004670017"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (CARD, MASKED),
        ("5454 5454 5454 5454", MASKED),
        ("5454-5454-5454-5454", MASKED),
        ("3782 822463 10005", "378282*****0005"),
        ("4222222222222", "422222***2222"),
        ("6011000000000000001", "601100*********0001"),
        ("1000 5454 5454 5454 5454 12", f"1000 {MASKED} 12"),
        (f"card={CARD}, then {CARD}x", f"card={MASKED}, then {MASKED}x"),
        ("5454545454545455", "5454545454545455"),
        ("54545454545454540000", "54545454545454540000"),
        ("2026-11-23T18:04:14.123456Z", "2026-11-23T18:04:14.123456Z"),
    ],
)
def test_what_passes_for_a_card_number_is_masked(said: str, shown: str) -> None:
    """To its first six and last four digits, with or without spaces and dashes; what passes for none is left."""
    from worker.logs.cards import _masked

    assert _masked(said) == shown


PATHS = f"""
import traceback
from decimal import Decimal
from celery.app import trace
CARD = "{CARD}"
class Odd:
    def __repr__(self): return f"<Odd {{CARD}}>"
def broken():
    try:
        raise ValueError("of card " + CARD)
    except ValueError as error:
        raise RuntimeError("again " + CARD) from error
log.warning("ours", told=CARD, number=int(CARD), nested={{"a": [CARD, {{CARD: Odd()}}]}}, spaced="5454 5454 5454 5454")
log.warning(CARD)
log.warning("bytes", told=CARD.encode(), odd=Odd(), amount=float(CARD))
logging.getLogger("library").error("foreign %s", CARD)
logging.getLogger(CARD).warning("a name")
for name in ("library", "gunicorn.error", "waitress", "celery.app.trace", "sqlalchemy"):
    try:
        broken()
    except RuntimeError:
        logging.getLogger(name).exception("Error handling request %s", "/" + CARD)
try:
    broken()
except RuntimeError:
    log.exception("ours broke")
log.warning("ids", request_id=CARD, merchant_id="5454-5454-5454-5454", error_id=CARD)
with logs.in_hand(received_at=CARD, request_id=CARD): log.warning("bound")
from sqlalchemy import create_engine, text
from worker.database.engine import new_engine
from sqlalchemy.engine import make_url
try:
    with new_engine(make_url("sqlite:///odd.db"), 1, 5).connect() as connection:
        connection.execute(text("INSERT INTO nowhere VALUES (:card)"), {{"card": CARD}})
except Exception:
    log.exception("of the database")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_way_into_the_log_lets_a_card_number_out(tmp_path: Path, form: str) -> None:
    """Events of ours, libraries' lines and names, values of any type, tracebacks, and ids that are none."""
    lines = lines_of(PATHS, tmp_path, PAYHOOK_LOG_FORMAT=form)

    assert len(lines) >= 14
    assert [line for line in lines if CARD in line or "5454 5454" in line or "5454-5454" in line] == []


@pytest.mark.parametrize("payment_id", LIKE_CARDS)
def test_a_payment_is_found_by_its_id(tmp_path: Path, payment_id: str) -> None:
    """Though it has as many digits as a card's number, and passes its checksum; in a text it is masked all the same."""
    operation_id, key = f"{payment_id}_1", int(payment_id)
    [record] = records_of(
        f"log.info('x', payment_id='{payment_id}', platform_operation_id='{operation_id}', payment_key={key}, "
        f"event_keys=[{key}], told='{payment_id}')",
        tmp_path,
    )

    assert (record["payment_id"], record["platform_operation_id"]) == (payment_id, operation_id)
    assert (record["payment_key"], record["event_keys"]) == (key, [key])
    assert payment_id not in record["told"]


def test_a_task_that_breaks_is_told_without_its_text(tmp_path: Path) -> None:
    """Celery's own line quotes the exception and all its causes; kind and place are enough."""
    [record] = records_of(
        """
try:
    raise ValueError("canary")
except ValueError:
    logging.getLogger("celery.app.trace").error("Task %s raised unexpected: %r", "x", "canary", exc_info=True)
""",
        tmp_path,
    )

    assert record["event"].startswith("a task broke: ValueError at <string>:")
    assert "canary" not in str(record)
