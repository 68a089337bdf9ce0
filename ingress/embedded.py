"""`payhook up`: ingress, worker and sweep in one process, on SQLite and an in-process broker."""

import os
import re
import signal
import socket
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

import structlog
from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import create_server

from ingress import assemble
from ingress.desk import open_desk
from ingress.key_stores import encryption_keys, kind_of_store
from ingress.webhooks import MOST_BYTES
from worker import logs, tracing
from worker.celery_app import LEAVE_SECONDS
from worker.database import Database, migrate
from worker.operations import settling
from worker.reconciliation.claims import free_every_claim
from worker.settings import Settings

log = structlog.get_logger("payhook.up")

#: waitress buffers a slow client's request before it takes a thread, so few threads answer many.
BUFFERED_THREADS = 8

#: Requests in hand are finished within this.
REQUEST_SECONDS = 3.0

#: waitress counts a chunked body with its chunk marks, and refuses at its limit, not past it: the view decides.
MOST_BUFFERED_BYTES = 4 * MOST_BYTES


def run(settings: Settings, host: str, port: int) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then end the process.

    Args:
        settings: with a merchant and the in-process broker.
        host: where to listen.
        port: where to listen; 0 takes a free one.
    """
    logs.set_up(settings)
    migrate(settings.database_url.get_secret_value())
    if kind_of_store(settings)[0] == "database":
        encryption_keys(settings, create=True)
    from worker import tasks  # noqa: PLC0415 - it reads the environment

    tasks.app.set_default()
    desk = open_desk(settings, tasks.doorbell)
    freed = _free_every_claim(desk.database)
    server = _server(assemble(settings, desk), host, port)
    desk.ring.state()  # has the keys read before a webhook asks for one
    worker = tasks.app.WorkController(
        pool="threads", concurrency=4, without_gossip=True, without_mingle=True, without_heartbeat=True
    )
    threading.Thread(target=worker.start, name="worker", daemon=True).start()
    tasks.begin_sweeping()  # of Celery's signals, a controller on a thread does not give `worker_ready`
    _leave_on_signals(server)
    log.info("up", address=f"http://{host}:{server.effective_port}", claims_freed=freed)
    server.run()
    server.task_dispatcher.shutdown(cancel_pending=False, timeout=REQUEST_SECONDS)
    _stop(worker)
    desk.ring.close()
    desk.database.close()
    log.info("down")
    tracing.flush()
    logs.flush()
    os._exit(0)  # a look that was not finished in time would hold the interpreter up at its exit


def _free_every_claim(database: Database) -> int:
    if not database.is_sqlite:
        return 0  # other workers may be at it
    with database.transaction() as connection:  # this is the only worker there is: whoever held them is gone
        return free_every_claim(connection) + settling.free_every_claim(connection)


def _server(app: Flask, host: str, port: int) -> Any:
    try:
        return _listening(app, host, port)
    except OSError as error:
        sys.exit(f"cannot listen on {host}:{port} ({error.strerror}); choose another with --host and --port")


def _listening(app: Flask, host: str, port: int) -> Any:
    # One address of the name: for several, waitress makes a server of another kind, which would parse as it likes.
    address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
    server = create_server(
        app,
        host=address,
        port=port,
        threads=BUFFERED_THREADS,
        max_request_body_size=MOST_BUFFERED_BYTES,
        max_request_header_size=16 * 1024,
        channel_timeout=30,
        connection_limit=1000,
        ident=None,
        clear_untrusted_proxy_headers=True,
    )
    server.channel_class = _Channel
    return server


class _StrictParser(HTTPRequestParser):  # type: ignore[misc]  # untyped
    """Refuses what two servers could read in two ways, as gunicorn and nginx do: waitress unfolds a folded header, and
    believes the chunks where a length is told too."""

    def parse_header(self, header_plus: bytes) -> None:
        if b"," in b",".join(_FRAMING.findall(header_plus)) or _FOLDED.search(header_plus):
            raise ParsingError("a folded header, or a length told twice")
        super().parse_header(header_plus)


_FOLDED = re.compile(rb"\n[ \t]")
_FRAMING = re.compile(rb"\n(?:content-length|transfer-encoding)[ \t]*:([^\n]*)", re.IGNORECASE)


class _Channel(HTTPChannel):  # type: ignore[misc]  # untyped
    parser_class = _StrictParser


def _leave_on_signals(server: Any) -> None:
    """The first signal lets requests in hand finish, the second does not."""
    leaving = threading.Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        if leaving.is_set():
            raise SystemExit  # ends waitress's loop, which is what this thread is in
        leaving.set()
        threading.Thread(target=_finish_requests, args=(server,), daemon=True).start()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)


def _finish_requests(server: Any) -> None:
    server.trigger.pull_trigger(lambda: wasyncore.dispatcher.close(server))  # no new connections
    deadline = time.monotonic() + REQUEST_SECONDS
    while time.monotonic() < deadline and any(
        channel.requests or channel.total_outbufs_len for channel in list(server.active_channels.values())
    ):
        time.sleep(0.02)
    # With nothing left to wait for, the loop ends by itself. An exception could be swallowed by what it hit there.
    server.trigger.pull_trigger(lambda: wasyncore.close_all(server._map, ignore_all=True))


def _stop(worker: Any) -> None:
    # Finishes the rows in hand too (`worker_shutdown`), which has its time-out; the rest of it has none. What is left
    # undone is freed at the next start.
    stopping = threading.Thread(target=worker.stop, name="stop-worker", daemon=True)
    stopping.start()
    stopping.join(LEAVE_SECONDS + 1)
