"""Every door in: the Flask application that receives webhooks (``flask --app ingress run``)."""

import logging
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import structlog
from flask import Flask, Response, current_app
from werkzeug.exceptions import HTTPException

from ingress.desk import Desk, open_desk
from ingress.health import health
from ingress.metrics import metrics
from ingress.webhooks import receive, unavailable, webhooks
from worker import logs
from worker.database import DatabaseUnavailable, WrongRevision
from worker.metrics import WEBHOOK_ANSWER_SECONDS, WEBHOOK_ANSWERS
from worker.settings import Settings, SettingsError, load_settings
from worker.settings.sources import tell_settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

log = structlog.get_logger("payhook.ingress")


_FAULT = WEBHOOK_ANSWERS.labels(503, "fault")

#: gunicorn starts a process that ends with any other code again, for ever.
GIVES_UP = 3


def create_app(settings: Settings | None = None, desk: Desk | None = None) -> Flask:
    """The parts put together, for any WSGI server.

    Args:
        settings: what to build them from; read from the environment when left out.
        desk: the parts, when they are already built.

    Returns:
        The WSGI application. With the database unreachable it starts all the same, and answers 503 until it is back.

    Raises:
        SystemExit: a setting is wrong, or the database is at another revision; what to do is on standard error.
    """
    try:
        settings = settings or load_settings()
        return assemble(settings, desk or open_desk(settings))
    except (SettingsError, WrongRevision) as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(GIVES_UP)


def assemble(settings: Settings, desk: Desk) -> Flask:
    """The application of parts that are already built, for our own commands.

    Raises:
        WrongRevision: of the database; the message says what to do.
    """
    logs.set_up(settings)
    try:
        desk.database.check()
    except WrongRevision:
        raise
    except DatabaseUnavailable as error:
        log.warning("database.unreachable", told=str(error))
    tell_settings()
    app = Flask("ingress", static_folder=None)
    app.extensions["payhook"] = desk
    app.register_blueprint(webhooks)
    app.register_blueprint(health)
    app.register_blueprint(metrics)
    app.register_error_handler(HTTPException, _refusal)
    app.register_error_handler(Exception, _never_a_500)
    app.wsgi_app = Express(app)  # type: ignore[method-assign]  # Flask's own way to put something in front
    return app


class Express:
    """Answers POST /webhooks in front of Flask, whose routing and contexts cost as much as storing the event.

    Args:
        app: what answers everything else, and would answer this the same.
    """

    def __init__(self, app: Flask):
        self.behind = app.wsgi_app
        self._desk: Desk = app.extensions["payhook"]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST" or environ["PATH_INFO"] != "/webhooks":
            return self.behind(environ, start_response)
        began = time.perf_counter()
        try:
            answer = receive(self._desk, environ)
        except HTTPException as error:
            answer = _refusal(error)
            WEBHOOK_ANSWERS.labels(error.code, error.name.lower().replace(" ", "-")).inc()
        except Exception as error:
            answer = _broke(self._desk, error)
            _FAULT.inc()
        WEBHOOK_ANSWER_SECONDS.observe(time.perf_counter() - began)
        return answer(environ, start_response)


def _refusal(error: HTTPException) -> Response:
    answer = Response(f"{error.name.lower()}\n", status=error.code or 500, mimetype="text/plain")
    for name, value in error.get_headers():
        if name.lower() == "allow":
            answer.headers[name] = value
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def _never_a_500(error: Exception) -> Response:
    return _broke(current_app.extensions["payhook"], error)


def _broke(desk: Desk, error: Exception) -> Response:
    """Whatever broke, the event is not known to be stored: the platform must send it again."""
    desk.refusals.tell("request.broke", type(error).__name__, logging.ERROR)
    return unavailable()


__all__: list[Any] = ["assemble", "create_app"]
