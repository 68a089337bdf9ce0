"""Whoever floods the door does not flood the log, and nothing that was refused goes uncounted."""

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ingress.refusals import Refusals
from ingress.signatures import REASONS
from tests.ingress.conftest import House, event_body, signed
from tests.servers.process_tree import wait_for
from worker import logs
from worker.settings import Settings

Lines = list[dict[str, Any]]


@pytest.fixture
def lines(settings_of: Callable[..., Settings], logs_as_they_were: None) -> Lines:
    """What is logged, as it is handed over."""
    lines: Lines = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert isinstance(record.msg, dict)
            lines.append(record.msg)

    logs.set_up(settings_of())
    logging.getLogger().addHandler(Keep())
    return lines


def test_the_first_is_told_at_once_and_the_rest_with_their_number(lines: Lines) -> None:
    """A thousand refusals are two lines, and their counts add up."""
    refusals = Refusals(seconds=1.0)

    for _ in range(1000):
        refusals.tell("webhook.forged", "unknown-key")
    first = list(lines)
    wait_for(lambda: len(lines) > 1, 10)

    assert [line["count"] for line in first] == [1]
    assert [line["count"] for line in lines] == [1, 999]
    assert {(line["event"], line["reason"], line["level"]) for line in lines} == {
        ("webhook.forged", "unknown-key", "warning")
    }


def test_a_flood_is_told_once_in_every_interval(lines: Lines) -> None:
    """From many threads at once, for as long as it lasts; none is counted twice or forgotten."""
    refusals = Refusals(seconds=0.2)
    began, sent = time.monotonic(), [0] * 4

    def flood(number: int) -> None:
        while time.monotonic() < began + 1.0:
            refusals.tell("webhook.forged", "wrong-signature")
            sent[number] += 1

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began
    wait_for(lambda: sum(line["count"] for line in lines) == sum(sent), 10)

    assert sum(line["count"] for line in lines) == sum(sent)
    assert len(lines) <= 2 + took / 0.2


def test_after_a_quiet_time_the_next_is_told_at_once_again(lines: Lines) -> None:
    """One now and then is one line each."""
    refusals = Refusals(seconds=0.1)

    for _ in range(3):
        refusals.tell("webhook.forged", "missing-header")
        time.sleep(0.5)

    assert [line["count"] for line in lines] == [1, 1, 1]


def test_one_reason_does_not_hide_another(lines: Lines) -> None:
    """Nor one event another."""
    refusals = Refusals()

    for reason in REASONS:
        refusals.tell("webhook.forged", reason)
        refusals.tell("webhook.not_stored", reason)

    assert len(lines) == 2 * len(REASONS)


def test_without_room_for_a_thread_every_one_is_told(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails to be brief, not to answer."""

    def no_room(_timer: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Timer, "start", no_room)
    refusals = Refusals()

    for _ in range(3):
        refusals.tell("webhook.forged", "unknown-key")

    assert [line["count"] for line in lines] == [1, 1, 1]


def test_of_many_senders_the_first_of_each_line_is_told(lines: Lines) -> None:
    """A line that began a flood has its first sender, and the one with the rest of it the first of the rest."""
    refusals = Refusals(seconds=0.5)

    for number in range(1000):
        refusals.tell("webhook.forged", "unknown-key", security=True, sender=f"10.0.{number // 256}.{number % 256}")
    wait_for(lambda: len(lines) > 1, 10)

    assert [(line["count"], line["sender"]) for line in lines[:2]] == [(1, "10.0.0.0"), (999, "10.0.0.1")]
    assert [line["security"] for line in lines[:2]] == [True, True]


@pytest.mark.parametrize("headers", [{}, {"X-Forwarded-For": "203.0.113.9"}, {"Forwarded": "for=203.0.113.9"}])
@pytest.mark.parametrize("secret", ["another", None])
def test_a_forgery_is_told_with_its_sender(
    house: House, headers: dict[str, str], secret: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the server sees it, whatever its headers say: a bad signature, and an unknown key."""
    body = event_body()
    signature = signed(body, key_id="unknown-to-us") if secret is None else signed(body, secret=secret)

    house.post(body, {**signature, **headers}, environ_base={"REMOTE_ADDR": "192.0.2.1"})
    logs.flush()

    said = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "192.0.2.1" in line]
    reason = "unknown-key" if secret is None else "wrong-signature"
    assert [(line["event"], line["reason"], line["security"]) for line in said] == [("webhook.forged", reason, True)]
    assert "203.0.113.9" not in str(said)


def test_a_flood_at_the_door_is_a_line_a_reason(house: House) -> None:
    """A hundred forgeries of each of two kinds, all answered 401; the genuine ones between them are all taken."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logging.getLogger().addHandler(Keep())
    statuses = []
    for number in range(100):
        body = event_body()
        unknown, wrong = signed(body, key_id=f"key-{number}"), signed(body, secret="another")
        statuses += [house.post(body, headers).status_code for headers in (unknown, wrong, signed(body))]

    assert statuses == [401, 401, 204] * 100
    # Those told in a request of ours: what other tests' floods left to be told comes from a timer.
    assert len([line for line in said if "webhook.forged" in line and "request_id" in line]) == 2
