"""One line a record, whatever is in it."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# What a process logs, in a process of its own: the set-up is the whole process's.
PROGRAM = """
import logging, sys
import structlog
from worker import logs
from worker.settings import load_settings
logs.set_up(load_settings())
log = structlog.get_logger("payhook.test")
"""


ROOT = Path(__file__).parents[3]

#: Of our modules these, wherever others are installed.
THIS_TREE = {"PYTHONPATH": str(ROOT)}


def lines_of(program: str, tmp_path: Path, **environment: str) -> list[str]:
    """What a program with our logs wrote on standard error, line by line; standard output stays empty."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + program],
        env={**THIS_TREE, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    # Not splitlines(), which also ends lines where a log collector does not.
    return ended.stderr.split("\n")[:-1]


def records_of(program: str, tmp_path: Path, **environment: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(program, tmp_path, **environment)]


def test_without_a_terminal_each_record_is_a_line_of_json(tmp_path: Path) -> None:
    """With its event, its level, its logger, its time in UTC, and what it is about."""
    [record] = records_of("log.info('event.kept', event_key=7)", tmp_path)

    assert record.pop("timestamp").endswith("Z")
    assert record == {"event": "event.kept", "event_key": 7, "level": "info", "logger": "payhook.test"}


HOSTILE = "a\nb\r\nc\x1b[31md\u202ee\u2028f\0g"


def test_nothing_that_was_received_begins_a_line_of_its_own(tmp_path: Path) -> None:
    """Line ends, escape sequences and marks of writing direction stay inside their record, whoever logs them."""
    records = records_of(
        f"""
log.warning("w", told={HOSTILE!r})
log.warning({HOSTILE!r})
logging.getLogger("library").error("%s", {HOSTILE!r})
""",
        tmp_path,
    )

    assert [record.get("told") or record["event"] for record in records] == [HOSTILE] * 3


def test_no_line_carries_a_character_that_a_terminal_obeys(tmp_path: Path) -> None:
    """JSON escapes them."""
    [line] = lines_of(f"log.warning('w', told={HOSTILE!r})", tmp_path)

    assert line.isascii()
    assert line.isprintable()


def test_an_exception_is_part_of_its_record(tmp_path: Path) -> None:
    """A traceback of many lines is one line."""
    [record] = records_of(
        """
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("library").exception("broke")
""",
        tmp_path,
    )

    assert "ZeroDivisionError" in record["exception"]


def test_libraries_log_as_we_do(tmp_path: Path) -> None:
    """Through the same renderer, with their own names."""
    [record] = records_of("logging.getLogger('gunicorn.error').warning('worker %d left', 3)", tmp_path)

    assert (record["logger"], record["event"], record["level"]) == ("gunicorn.error", "worker 3 left", "warning")


def test_gunicorn_quotes_nobody(tmp_path: Path) -> None:
    """What is no HTTP costs no line, and a request that broke is told by the kind and the place of the fault."""
    [record] = records_of(
        """
gunicorn = logging.getLogger("gunicorn.error")
gunicorn.addHandler(logging.StreamHandler())
logs.set_up(load_settings())
gunicorn.warning("Invalid request from ip=127.0.0.1: Invalid HTTP Header: 'canary'")
try:
    raise ValueError("canary")
except ValueError:
    gunicorn.exception("Error handling request %s %s", "POST", "/canary")
""",
        tmp_path,
    )

    assert record["event"].startswith("a request broke: ValueError at <string>:")
    assert "canary" not in str(record)


def test_libraries_that_say_a_line_for_every_event_are_quieter(tmp_path: Path) -> None:
    """Ours says one."""
    loud = ["celery.app.trace", "celery.worker.strategy", "urllib3.connectionpool", "amqp", "kombu.connection"]

    assert lines_of(f"for name in {loud}: logging.getLogger(name).info('again')", tmp_path) == []


def test_what_is_for_debugging_is_left_out(tmp_path: Path) -> None:
    """The level is INFO, ours and others'."""
    assert lines_of("log.debug('d'); logging.getLogger('x').debug('d')", tmp_path) == []


def test_on_request_it_is_for_people(tmp_path: Path) -> None:
    """Without colours where there is no terminal."""
    [line] = lines_of("log.info('event.kept', event_key=7)", tmp_path, PAYHOOK_LOG_FORMAT="console")

    assert "event.kept" in line
    assert "event_key=7" in line
    assert "\x1b" not in line


def test_for_people_too_a_record_is_a_line(tmp_path: Path) -> None:
    """What was received neither begins a line of its own nor moves a terminal's cursor, wherever in a record it is."""
    lines = lines_of(
        f"HOSTILE = {HOSTILE!r}"
        """
log.warning('w', told=HOSTILE)
log.warning('w', told='\x1b[31mred')
log.warning('w', told=[HOSTILE], other={'a': HOSTILE})
log.warning('w', told=ValueError(HOSTILE))
log.warning(HOSTILE)
logging.getLogger('x').warning('%s', HOSTILE)
logging.getLogger(HOSTILE).warning('w')
""",
        tmp_path,
        PAYHOOK_LOG_FORMAT="console",
    )

    assert len(lines) == 7
    assert [line for line in lines if not line.isprintable()] == []


def test_for_people_an_exception_is_set_in(tmp_path: Path) -> None:
    """Its lines are for reading; none of them, and nothing in its text, can be taken for a record."""
    first, *rest = lines_of(
        f"""
try:
    raise ValueError("\\n" + {HOSTILE!r})
except ValueError:
    log.exception("broke")
""",
        tmp_path,
        PAYHOOK_LOG_FORMAT="console",
    )

    assert "broke" in first
    assert len(rest) > 2
    assert [line for line in rest if not (line.startswith("    ") and line.isprintable())] == []


def test_setting_up_twice_says_everything_once(tmp_path: Path) -> None:
    """An application that is made twice in one process does not log twice."""
    assert len(lines_of("logs.set_up(load_settings()); log.info('once')", tmp_path)) == 1


def test_the_levels_are_those_of_the_standard_library() -> None:
    """What is quieter is set by the usual numbers."""
    from worker.logs import _QUIETER

    assert set(_QUIETER.values()) <= {logging.WARNING, logging.ERROR}


def test_what_is_bound_to_a_row_ends_with_it(tmp_path: Path) -> None:
    """Of what is in hand within it the ids are added; after an error too nothing stays but what others have bound."""
    records = records_of(
        """
structlog.contextvars.bind_contextvars(others="stays")
with logs.in_hand(event_key=7, payment_id="3254564310", merchant_id="acme"):
    with logs.in_hand(operation_key=3):
        log.info("inner")
    log.info("outer")
try:
    with logs.in_hand(event_key=8):
        raise ValueError
except ValueError:
    log.info("after")
logging.getLogger("library").info("after too")
""",
        tmp_path,
    )

    usual = {"event", "level", "logger", "timestamp"}
    bound = [{name: value for name, value in record.items() if name not in usual} for record in records]
    row = {"event_key": 7, "payment_id": "3254564310", "merchant_id": "acme", "others": "stays"}
    assert bound == [{**row, "operation_key": 3}, row, {"others": "stays"}, {"others": "stays"}]


def test_threads_do_not_share_what_is_bound(tmp_path: Path) -> None:
    """A pool's thread tells of its next row without the ids of the one before, whatever became of that."""
    records = records_of(
        """
from worker.crew import Crew
crew = Crew(2)
def look(key):
    with logs.in_hand(event_key=key, payment_id=str(key)):
        log.info("looked")
        if key % 3 == 0:
            raise ValueError
def bare(key):
    log.info("bare")
for key in range(1, 41):
    crew.submit(look if key % 2 else bare, key)
crew.drain(10)
""",
        tmp_path,
    )

    looked = [record for record in records if record["event"] == "looked"]
    assert [record["payment_id"] for record in looked] == [str(record["event_key"]) for record in looked]
    assert len(looked) == 20
    assert [
        record for record in records if record["event"] == "bare" and record.keys() & {"event_key", "payment_id"}
    ] == []


@pytest.mark.parametrize(("level", "said"), [("debug", "dwe"), ("info", "we"), ("warning", "we"), ("error", "e")])
def test_the_level_is_a_setting(tmp_path: Path, level: str, said: str) -> None:
    """Of ours and of others' lines."""
    program = "log.debug('d'); log.warning('w'); logging.getLogger('x').error('e')"

    records = records_of(program, tmp_path, PAYHOOK_LOG_LEVEL=level)

    assert "".join(record["event"] for record in records) == said


def test_what_a_process_was_started_with_is_told_without_values(tmp_path: Path) -> None:
    """The names, and whether each came from the environment or from `.env`."""
    (tmp_path / ".env").write_text("PAYHOOK_MERCHANT_ID=from-the-file\nPAYHOOK_API_SECRET=canary-of-a-file\n")

    [record] = records_of(
        "from worker.settings.sources import tell_settings; tell_settings()",
        tmp_path,
        PAYHOOK_MERCHANT_ID="canary-of-the-environment",
        OTHER="x",
    )

    assert (record["event"], record["security"]) == ("settings.read", True)
    assert record["given"] == {"PAYHOOK_API_SECRET": ".env", "PAYHOOK_MERCHANT_ID": "environment"}
    assert "canary" not in str(record)
