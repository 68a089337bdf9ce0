"""One payment's story, from the POST to the capture: in the log by its id, and as one trace."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import load
from tests.end_to_end.collector import Collector, collecting
from tests.end_to_end.conftest import Start
from tests.end_to_end.house import CANARIES, KEY_ID, SECRET, House, event
from tests.end_to_end.story import HEADING, PAGE
from tests.servers.process_tree import wait_for

#: From the POST to the capture, in the order in which each is told first.
STEPS = [
    "webhook.stored",
    "payment.claimed",
    "platform.called",
    "operation.requested",
    "operation.promised",
    "payment.reconciled",
    "operation.claimed",
    "operation.sent",
    "operation.settled",
]


@pytest.mark.timeout(120)
def test_a_capture_is_told_from_its_webhook_on(start: Start, tmp_path: Path) -> None:
    """A payment among others is authorised, and captured by the policy: whoever greps its id in the log reads all of
    it in order, and one trace has all of its steps, under the POST's span."""
    with collecting() as collector:
        house = House(
            start,
            f"sqlite:///{tmp_path}/payhook.db",
            "memory://",
            more={
                "PAYHOOK_POLICY": "capture-when-authorised",
                "PAYHOOK_LOG_LEVEL": "debug",
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
                "OTEL_BSP_SCHEDULE_DELAY": "200",
            },
        )
        process = house.run("up", "payhook", "up", "--port", str(house.port))
        process.wait_until(f"{house.url}/health/live")
        payment_ids = house.sandbox.create_payments(3, webhooks=False)
        load.run(house.webhook_url, [event(one) for one in payment_ids], 20, 0.2, KEY_ID, SECRET)
        captured = wait_for(lambda: len([one for one in house.operations() if one["platform_operation_id"]]) == 3, 30)
        code = process.terminate(40)

    assert (captured, code) == (True, 0)
    one = house.operations()[0]
    lines = process.log.read_text().splitlines()
    story = [json.loads(line) for line in lines if one["payment_id"].partition("_")[0] in line]
    assert_is_story(story, one)
    assert_is_one_trace(collector, one)
    assert [secret for secret in CANARIES if secret in str(collector.spans) or secret in "\n".join(lines)] == []


def test_the_page_tells_it() -> None:
    """The story in docs/operating.md, which a script writes, has the same steps in the same order."""
    story = PAGE.read_text(encoding="utf-8").partition(HEADING)[2]
    told = re.findall(r"^ *[0-9]+\.[0-9]{3} ([a-z.]+) ", story, re.MULTILINE)

    assert [step for step in dict.fromkeys(told) if step in STEPS] == STEPS


def assert_is_story(story: list[dict[str, Any]], operation: dict[str, Any]) -> None:
    """Its lines in order, each with the ids that are known by then."""
    events = list(dict.fromkeys(line["event"] for line in story))

    assert [event for event in events if event in STEPS] == STEPS
    (posted,) = [line for line in story if line["event"] == "webhook.stored"]
    assert (posted["merchant_id"], posted["answer"], posted["rung"]) == ("sandbox", 204, 1)
    first = next(line for line in story if line["event"] == "payment.reconciled")
    assert first["event_keys"] == posted["event_keys"]
    assert (first["state"], first["status_code"], first["amount_authorised"]) == ("authorised", 5, [0, 1000])
    assert first["received_at"] <= first["timestamp"]
    (sent,) = [line for line in story if line["event"] == "operation.sent"]
    assert (sent["operation_key"], sent["request_id"]) == (operation["operation_key"], operation["request_id"])
    assert (sent["kind"], sent["amount"], sent["currency"], sent["answer"]) == ("capture", 1000, "EUR", "done")
    calls = [line["call"] for line in story if line["event"] == "platform.called"]
    assert (calls[0], "capture_payment" in calls) == ("get_payment", True)
    assert {line["merchant_id"] for line in story if line["event"] != "sweep.rang"} == {"sandbox"}


def assert_is_one_trace(collector: Collector, operation: dict[str, Any]) -> None:
    """From the POST to the capture; every span's parent is there, and the only one without is the POST's."""
    trace_id = operation["trace"].split("-")[1]
    spans = {span.span_id: span for span in collector.spans if span.trace_id == trace_id}

    (root,) = [span for span in spans.values() if not span.parent_id]
    assert root.name == "webhook"
    assert [span for span in spans.values() if span.parent_id and span.parent_id not in spans] == []
    names = {span.name for span in spans.values()}
    assert names >= {"verify", "store", "look", "claim", "get_payment", "write", "send", "capture_payment"}
    (send,) = [span for span in spans.values() if span.name == "send"]
    assert spans[send.parent_id].name == "write"
    assert send.about["payhook.operation_key"] == operation["operation_key"]
    assert len({span.trace_id for span in collector.spans if span.name == "webhook"}) == 3
