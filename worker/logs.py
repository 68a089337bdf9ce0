"""One line a record, on standard error: for people on a terminal, JSON for machines. Ids, codes and times only."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from worker.settings import Settings


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _FirstLineOnly(logging.Filter):
    """Celery tells of a message it cannot use by quoting it whole; what others send may hold anything."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            record.msg, record.args = (record.getMessage().splitlines() or [""])[0][:200], ()
            record.exc_info = None
        return True


class _Unquoted(logging.Filter):
    """gunicorn quotes what it was sent, and says a line for every request that is no HTTP: the sender would decide
    what is in the log, and how long it gets."""

    def filter(self, record: logging.LogRecord) -> bool:
        said = str(record.msg)
        if said.startswith("Invalid request"):
            return False
        if said.startswith("Error handling request") and record.exc_info and record.exc_info[1]:
            error, record.exc_info = record.exc_info[1], None
            record.msg, record.args = "a request broke: %s at %s", (type(error).__name__, place_of(error))
        return True


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


def set_up(settings: Settings) -> None:
    """Send everything the process logs, libraries included, through one renderer.

    Args:
        settings: the format; without one, ``console`` on a terminal, else ``json``.
    """
    form = settings.log_format or ("console" if sys.stderr.isatty() else "json")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderers: list[Any] = [structlog.processors.JSONRenderer()]
    if form == "console":
        renderers = [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [other for other in root.handlers if not isinstance(other, _StandardError)] + [handler]
    root.setLevel(logging.INFO)
    consumer = logging.getLogger("celery.worker.consumer.consumer")
    consumer.filters[:] = [_FirstLineOnly()]
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.filters[:] = [_Unquoted()]
    gunicorn.handlers[:], gunicorn.propagate = [], True  # its own write plain text
    for name, level in _QUIETER.items():
        logging.getLogger(name).setLevel(level)


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
