"""GET /metrics tells how webhooks were answered and where the installation stands, and no more than that."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.ingress.conftest import KEY_ID, SECRET, House, OpenHouse, event_body, signed
from tests.test_metrics_documentation import documented

Samples = dict[tuple[str, ...], float]


def samples(house: House) -> Samples:
    """Every value that is shown, by its name and the values of its labels in the order of their names."""
    answer = house.client.get("/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def grown(before: Samples, after: Samples, name: str) -> Samples:
    """What has grown of a metric, by its labels."""
    changes = {labels[1:]: value - before.get(labels, 0.0) for labels, value in after.items() if labels[0] == name}
    return {labels: change for labels, change in changes.items() if change}


def test_every_answer_is_counted_with_its_reason(house: House) -> None:
    """Stored, delivered again, forged for each reason, and not even looked at; each was timed."""
    before, body = samples(house), event_body()

    house.post(body)
    house.post(body)
    house.post(event_body(), {**signed(b"another body")})
    house.post(event_body(), {})
    house.post(event_body(), {**signed(b""), "Content-Encoding": "gzip"})
    after = samples(house)

    assert grown(before, after, "payhook_webhook_answers_total") == {
        ("stored", "204"): 2.0,
        ("wrong-signature", "401"): 1.0,
        ("missing-header", "401"): 1.0,
        ("unsupported-media-type", "415"): 1.0,
    }
    assert grown(before, after, "payhook_webhook_events_total") == {("first",): 1.0, ("again",): 1.0}
    assert grown(before, after, "payhook_webhook_answer_seconds_count") == {(): 5.0}
    assert after["payhook_events_waiting",] == 1.0


def test_what_is_shown_is_documented(house: House) -> None:
    """Every name, asked of the door itself in Prometheus's own format."""
    families = text_string_to_metric_families(house.client.get("/metrics").text)
    names = {f"{one.name}_total" if one.type == "counter" else one.name for one in families}

    assert names <= set(documented())
    assert names >= {"payhook_key_store_readable", "payhook_events_waiting", "payhook_rings_total"}


def test_neither_ids_nor_secrets_are_shown(house: House) -> None:
    """Nothing of what was received, nor of what verifies it."""
    house.post(event_body(id="canary-event", payment={"id": "7777777777_1"}))
    house.post(event_body(), {**signed(b""), "X-GCS-KeyId": "canary-key"})

    told = house.client.get("/metrics").text

    assert not [secret for secret in ("canary", "7777777777", KEY_ID, SECRET) if secret in told]


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=1.0.0", "text/plain", ""])
def test_each_reader_gets_the_format_it_asks_for(house: House, accept: str) -> None:
    """OpenMetrics where it is asked for, else the text format."""
    answer = house.client.get("/metrics", headers={"Accept": accept})

    assert answer.text.endswith("# EOF\n") == ("openmetrics" in accept)
    assert answer.content_type.startswith(accept.partition(";")[0] or "text/plain")


def test_without_its_database_it_tells_what_it_has_counted(open_house: OpenHouse) -> None:
    """At once, with the database's own gauges left out."""
    house = open_house(database_url="postgresql+psycopg://nobody@127.0.0.1:1/nowhere")
    before = samples(house)

    refused = house.post(event_body())
    began = time.monotonic()
    after = samples(house)
    took = time.monotonic() - began

    assert refused.status_code == 503
    assert took < 1
    assert grown(before, after, "payhook_webhook_answers_total") == {("database", "503"): 1.0}
    assert after["payhook_database_reachable",] == 0.0
    assert ("payhook_events_waiting",) not in after
