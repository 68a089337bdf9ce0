"""What stands in front of Flask answers as Flask would."""

from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import Client, TestResponse

from ingress import Express
from ingress.webhooks import MOST_BYTES
from tests.ingress.conftest import House, event_body, signed

BODY = event_body()
TOO_LONG = b"x" * (MOST_BYTES + 1)
CHUNKED = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}

REQUESTS: dict[str, dict[str, Any]] = {
    "genuine": {"data": BODY, "headers": signed(BODY)},
    "forged": {"data": BODY + b" ", "headers": signed(BODY)},
    "unsigned": {"data": BODY},
    "without a body": {"headers": signed(BODY)},
    "too long": {"data": TOO_LONG, "headers": signed(TOO_LONG)},
    "chunked": {"headers": signed(BODY), "environ_overrides": CHUNKED | {"wsgi.input": BODY}},
    "chunked, too long": {"headers": signed(TOO_LONG), "environ_overrides": CHUNKED | {"wsgi.input": TOO_LONG}},
    "cut short": {"headers": signed(BODY), "environ_overrides": {"CONTENT_LENGTH": "9999", "wsgi.input": BODY}},
    "of no length": {"data": BODY, "headers": signed(BODY), "environ_overrides": {"CONTENT_LENGTH": "many"}},
    "compressed": {"data": BODY, "headers": signed(BODY) | {"Content-Encoding": "gzip"}},
    "another method": {"method": "PUT", "data": BODY, "headers": signed(BODY)},
    "another path": {"path": "/webhooks/", "data": BODY, "headers": signed(BODY)},
}


def ask(app: Any, request: dict[str, Any]) -> TestResponse:
    overrides = dict(request.get("environ_overrides", {}))
    if "wsgi.input" in overrides:
        overrides["wsgi.input"] = BytesIO(overrides["wsgi.input"])
    return Client(app).open(**({"path": "/webhooks", "method": "POST"} | request | {"environ_overrides": overrides}))


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_answer_is_the_same_with_it_and_without(house: House, request_: dict[str, Any]) -> None:
    """Status, headers and body, whatever was sent."""
    express = express_of(house)

    answers = [ask(app, request_) for app in (express, express.behind)]

    assert answers[0].status == answers[1].status
    assert sorted(answers[0].headers) == sorted(answers[1].headers)
    assert answers[0].data == answers[1].data


def test_what_breaks_is_answered_the_same(house: House) -> None:
    """503 with `Retry-After`: the event is not known to be stored."""
    express = express_of(house)
    object.__setattr__(house.desk, "doorbell", None)

    answers = [ask(app, REQUESTS["genuine"]) for app in (express, express.behind)]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert sorted(answers[0].headers) == sorted(answers[1].headers)


def test_an_event_does_not_walk_through_flask(house: House) -> None:
    """Or it would cost nearly twice as much, and nobody would notice."""
    express = express_of(house)
    express.behind = None  # type: ignore[assignment]

    assert ask(express, REQUESTS["genuine"]).status_code == 204


def express_of(house: House) -> Express:
    app = house.client.application
    assert isinstance(app, Flask)
    assert isinstance(app.wsgi_app, Express)
    return app.wsgi_app
