"""GET /health/live: the process is up. GET /health/ready: it can take webhooks, and what else is worth knowing."""

from datetime import datetime
from typing import Any

from flask import Blueprint, Response, current_app, jsonify

from ingress.desk import Desk
from worker import reports
from worker.database import DatabaseUnavailable, WrongRevision
from worker.reports.standing import Trouble, trouble

health = Blueprint("health", __name__, url_prefix="/health")

#: Older than this, waiting events say that no worker keeps up: reported, for the ingress itself is well.
LATE_SECONDS = 120


@health.get("/live")
def live() -> Response:
    return jsonify(status="ok")


@health.get("/ready")
def ready() -> tuple[Response, int]:
    desk: Desk = current_app.extensions["payhook"]
    needed = {"database": _reachable(desk), "key_store": desk.keys_readable()}
    reported = {"broker": desk.doorbell.state(), **_work(desk, needed["database"]["ok"])}
    if not all(check["ok"] for check in needed.values()):
        status, code = "unavailable", 503
    else:
        status, code = ("ok" if all(check["ok"] for check in reported.values()) else "degraded"), 200
    return jsonify(status=status, checks={**needed, **reported}), code


def _reachable(desk: Desk) -> dict[str, Any]:
    try:
        desk.database.check()
    except WrongRevision as error:
        return {"ok": False, "told": str(error)}
    except DatabaseUnavailable:  # what the driver says names hosts and users: it is in the log
        return {"ok": False, "told": "the database does not answer"}
    return {"ok": True}


def _work(desk: Desk, reachable: bool) -> dict[str, dict[str, Any]]:
    try:
        if not reachable:
            raise DatabaseUnavailable
        with desk.database.reading() as connection:
            waiting = reports.backlog(connection)
            swept = reports.seconds_since_sweep(connection)
            troubles = trouble(connection)
    except DatabaseUnavailable:
        unknown = {"ok": False, "told": "the database does not answer"}
        return dict.fromkeys(("backlog", "sweep", "circuits", "webhooks", "review"), unknown)
    return {
        **_troubles(troubles),
        "backlog": {
            "ok": waiting.oldest_seconds <= LATE_SECONDS,
            "events": waiting.events,
            "oldest_seconds": round(waiting.oldest_seconds, 1),
            "payments": waiting.payments,
        },
        "sweep": {
            "ok": swept is not None and swept <= LATE_SECONDS,
            "seconds_ago": None if swept is None else round(swept, 1),
        },
    }


def _troubles(found: Trouble) -> dict[str, dict[str, Any]]:
    opened = {one.merchant_id: {"since": _text(one.since), "why": one.why} for one in found.circuits}
    missed = {
        one.merchant_id: {"since": _text(one.missed_since)} for one in found.silences if one.missed_since is not None
    }
    return {
        "circuits": {"ok": not opened, "open": opened},
        "webhooks": {"ok": not missed, "missed": missed},
        "review": {"ok": found.review == 0, "operations": found.review},
    }


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
