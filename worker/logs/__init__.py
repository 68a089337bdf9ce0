"""One line a record, on standard error: for people on a terminal, JSON for machines. Ids, codes and times only."""

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import structlog

from worker.logs.cards import Masked
from worker.logs.sink import LAST_LINES_SECONDS, SINK, Handler
from worker.settings import Settings

#: The rows in hand: ``event_key``, ``event_keys``, ``payment_key``, ``payment_id``, ``merchant_id``, ``operation_key``,
#: ``received_at``, and ``request_id``: the asker's, of an operation, or of one POST. All in one variable, and not one
#: for each as structlog has them: so nothing of a row is left behind in a thread, and a webhook pays a microsecond.
_IN_HAND: ContextVar[Mapping[str, Any]] = ContextVar("payhook_in_hand", default=MappingProxyType({}))


class _FirstLineOnly(logging.Filter):
    """Celery tells of a message it cannot use by quoting it whole; what others send may hold anything."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            record.msg, record.args = (record.getMessage().splitlines() or [""])[0][:200], ()
            record.exc_info = None
        return True


class _Unquoted(logging.Filter):
    """What servers and Celery say of what they were sent, or of a task that broke, quotes it: the sender would decide
    what is in the log, and how long it gets. The kind and the place of a fault are enough to find it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("Invalid request"):  # gunicorn, of whatever is no HTTP
            return False
        if record.exc_info and record.exc_info[1]:
            error, record.exc_info, record.exc_text = record.exc_info[1], None, None
            record.msg, record.args = "%s broke: %s at %s", (_OF[record.name], type(error).__name__, place_of(error))
        return True


#: Those who quote, and what breaks in their hands.
_OF = {"gunicorn.error": "a request", "waitress": "a request", "celery.app.trace": "a task"}


def _printable(_logger: Any, _level: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The record without a character that a terminal obeys; of an exception, each line set in from the margin.

    For people only: JSON escapes by itself. So whatever begins at the margin is a record of ours.
    """
    for name, value in record.items():
        if name == "exception" and isinstance(value, str):
            record[name] = "\n".join(f"    {_escaped(line)}" for line in value.splitlines())
        elif isinstance(value, str):
            record[name] = _escaped(value)
    return record


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def place_of(error: BaseException) -> str:
    """The innermost line of an exception, for finding it without its text."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


@contextmanager
def in_hand(**ids: Any) -> Iterator[None]:
    """Every line meanwhile is about these rows; afterwards no longer, whatever happened.

    Args:
        ids: those that are known.
    """
    before = _IN_HAND.set({**_IN_HAND.get(), **ids})
    try:
        yield
    finally:
        _IN_HAND.reset(before)


def _with_ids(_logger: Any, _level: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {**_IN_HAND.get(), **record}


def flush() -> None:
    """Wait a moment for the last lines to be written: before ``os._exit``, which waits for nothing."""
    SINK.flush(LAST_LINES_SECONDS)


def set_up(settings: Settings, *, least: int = logging.DEBUG) -> None:
    """Send everything the process logs, libraries included, through one renderer.

    Args:
        settings: the level, and the format; without one, ``console`` on a terminal, else ``json``.
        least: nothing below this level, whatever the settings say: a command tells by its output what it has done.
    """
    level = max(logging.getLevelNamesMapping()[settings.log_level.upper()], least)
    form = settings.log_format or ("console" if sys.stderr.isatty() else "json")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _with_ids,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs nothing; the standard library's own would be rendered first and then dropped.
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    people = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    rendered: list[Any] = (
        [_printable, Masked(people)] if form == "console" else [Masked(structlog.processors.JSONRenderer())]
    )
    handler = Handler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if not isinstance(other, Handler)] + [handler]
    root.setLevel(level)
    consumer = logging.getLogger("celery.worker.consumer.consumer")
    consumer.filters[:] = [_FirstLineOnly()]
    for name in _OF:
        logging.getLogger(name).filters[:] = [_Unquoted()]
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.handlers[:], gunicorn.propagate = [], True  # its own write plain text
    for name, quieter in _QUIETER.items():
        logging.getLogger(name).setLevel(max(quieter, level))


#: Libraries that would say a line or more for every event; ours says one.
_QUIETER = {
    "alembic.runtime.plugins": logging.WARNING,
    "amqp": logging.WARNING,
    "celery.app.trace": logging.WARNING,
    "celery.worker.strategy": logging.WARNING,
    "kombu": logging.ERROR,
    "urllib3": logging.WARNING,
    "waitress.queue": logging.ERROR,
}
