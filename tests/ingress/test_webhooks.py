"""POST /webhooks, row by row of its contract, on the test client and on both servers."""

import http.client
import io
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, text

from tests.end_to_end.processes import Process
from tests.ingress.conftest import KEY_ID, SECRET, House, OpenHouse, event_body, program, signature_of, signed
from tests.servers.ports import free_port
from tests.servers.postgres_server import PostgresServer
from worker.database import Database, migrate
from worker.models import WebhookEvent

LIMIT = 256 * 1024

# The platform publishes this body and its signature with its SDKs.
PUBLISHED = b"""{
  "apiVersion": "v1",
  "id": "8ee793f6-4553-4749-85dc-f2ef095c5ab0",
  "created": "2017-02-02T11:24:14.040+0100",
  "merchantId": "20000",
  "type": "payment.paid",
  "payment": {
    "id": "00000200000143570012",
    "paymentOutput": {
      "amountOfMoney": {
        "amount": 1000,
        "currencyCode": "EUR"
      },
      "references": {
        "paymentReference": "200001681810"
      },
      "paymentMethod": "bankTransfer",
      "bankTransferPaymentMethodSpecificOutput": {
        "paymentProductId": 11
      }
    },
    "status": "PAID",
    "statusOutput": {
      "isCancellable": false,
      "statusCategory": "COMPLETED",
      "statusCode": 1000,
      "statusCodeChangeDateTime": "20170202112414",
      "isAuthorized": true
    }
  }
}"""
PUBLISHED_HEADERS = {"X-GCS-KeyId": "dummy-key-id", "X-GCS-Signature": "2S7doBj/GnJnacIjSJzr5fxGM5xmfQyFAwxv1I53ZEk="}


def flipped(data: bytes) -> Iterator[bytes]:
    """The data with one bit changed, each in turn."""
    for place in range(len(data)):
        for bit in range(8):
            yield data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Thousands of refusals, and no line for each."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


# What is genuine


def test_a_genuine_event_is_answered_when_it_is_stored(house: House) -> None:
    """204 without a body, the exact bytes in one row, and a ring for it."""
    body = event_body()

    answer = house.post(body)

    assert (answer.status_code, answer.data) == (204, b"")
    [row] = house.rows()
    assert (row.body, row.key_id, row.outcome) == (body, KEY_ID, None)
    assert house.doorbell.rung == [row.event_key]


def test_the_published_vector_is_genuine(house: House) -> None:
    """The platform's own body, secret and signature, byte for byte."""
    assert len(PUBLISHED) == 765
    assert (KEY_ID, SECRET) == ("dummy-key-id", "hello+world")

    assert house.post(PUBLISHED, PUBLISHED_HEADERS).status_code == 204

    [row] = house.rows()
    assert (row.body, row.merchant_id, row.payment_id) == (PUBLISHED, "20000", "00000200000143570012")


def test_a_redelivery_is_answered_the_same(house: House) -> None:
    """204 again, the same row, one more delivery."""
    body = event_body()

    answers = [house.post(body) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert [row.deliveries for row in house.rows()] == [3]


@pytest.mark.parametrize(
    ("body", "outcomes"),
    [
        (event_body(type="payment.news"), [None]),
        (event_body(type="account.news", payment=None), ["quarantined"]),
        (event_body(type="payment.test", payment={"id": "9999_9"}), ["ignored"]),
        (b"[" + event_body() + b"," + event_body() + b"]", [None, None]),
        (b"[]", ["quarantined"]),
        (b"", ["quarantined"]),
        (b"not JSON", ["quarantined"]),
        (b"\xff\xfe\x00", ["quarantined"]),
        (b"[" * 100_000, ["quarantined"]),
        (event_body(apiVersion="v2"), ["quarantined"]),
        (event_body(id="\u0000\ud800"), [None]),
    ],
    ids=[
        "unknown type",
        "null payment",
        "payment.test",
        "array",
        "empty array",
        "empty",
        "no JSON",
        "no text",
        "deep",
        "API version",
        "NUL and surrogate",
    ],
)
def test_whatever_is_genuine_is_answered_204(house: House, body: bytes, outcomes: list[str | None]) -> None:
    """Also what cannot be understood: it is kept, and the platform need not send it again."""
    assert house.post(body).status_code == 204

    assert [row.outcome for row in house.rows()] == outcomes


def test_the_merchants_of_the_settings_are_ours(open_house: OpenHouse) -> None:
    """An event of another merchant is kept and set aside; the answer does not tell."""
    house = open_house(merchant_id="acme", api_key_id="k", api_secret="s")

    answers = [house.post(event_body()), house.post(event_body(merchantId="stranger"))]

    assert [answer.status_code for answer in answers] == [204, 204]
    assert [row.outcome for row in house.rows()] == [None, "quarantined"]


def test_no_answer_sets_a_cookie_or_names_its_program(house: House) -> None:
    """There is nothing to remember about the platform."""
    for answer in (house.post(event_body()), house.post(b"x", {}), house.client.get("/webhooks")):
        assert {"Set-Cookie", "Server"} & set(answer.headers.keys()) == set()


# What is forged


def forgeries() -> dict[str, dict[str, str] | list[tuple[str, str]]]:
    genuine = signature_of(b"body")
    return {
        "no headers": {},
        "no key id": {"X-GCS-Signature": genuine},
        "no signature": {"X-GCS-KeyId": KEY_ID},
        "an empty signature": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": ""},
        "an empty key id": {"X-GCS-KeyId": "", "X-GCS-Signature": genuine},
        "an unknown key": {"X-GCS-KeyId": "nobody", "X-GCS-Signature": genuine},
        "another secret": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": signature_of(b"body", "other")},
        "another body's": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": signature_of(b"other")},
        "a doubled signature": [
            ("X-GCS-KeyId", KEY_ID),
            ("X-GCS-Signature", genuine),
            ("X-GCS-Signature", genuine),
        ],
        "a doubled key id": [("X-GCS-KeyId", KEY_ID), ("X-GCS-KeyId", KEY_ID), ("X-GCS-Signature", genuine)],
        "a joined signature": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": f"{genuine},{genuine}"},
        "white space inside": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": f"{genuine[:9]} {genuine[9:]}"},
        "no padding": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": genuine.rstrip("=")},
        "more padding": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": genuine + "="},
        "base64 for URLs": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": genuine.replace("+", "-").replace("/", "_")},
        "hexadecimal": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": "ab" * 32},
        "not ASCII": {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": "ü" * 43 + "="},
        "a key id of another case": {"X-GCS-KeyId": KEY_ID.upper(), "X-GCS-Signature": genuine},
        "a key id with a path": {"X-GCS-KeyId": "../dummy-key-id", "X-GCS-Signature": genuine},
        "a key id too long": {"X-GCS-KeyId": "k" * 5000, "X-GCS-Signature": genuine},
        "a key id of SQL": {"X-GCS-KeyId": "' OR 1=1 --", "X-GCS-Signature": genuine},
    }


def test_the_signature_that_the_forgeries_are_made_from_is_genuine(house: House) -> None:
    """None of them is refused for another reason than the one it is named by."""
    assert house.post(b"body", {"X-GCS-KeyId": KEY_ID, "X-GCS-Signature": signature_of(b"body")}).status_code == 204
    assert any(character in signature_of(b"body") for character in "+/")


def test_every_forgery_gets_the_same_answer_and_leaves_nothing(house: House) -> None:
    """401, the same bytes, the same headers: what was wrong is told to nobody who could make use of it."""
    answers = {}
    for what, headers in forgeries().items():
        answer = house.client.post("/webhooks", data=b"body", headers=headers)
        answers[what] = (answer.status_code, answer.data, sorted(answer.headers))

    assert {status for status, _, _ in answers.values()} == {401}
    assert len({repr(answer) for answer in answers.values()}) == 1
    assert house.rows() == []
    assert house.doorbell.rung == []


def test_no_forgery_is_quoted_in_the_log(house: House) -> None:
    """What was presented may be a secret in the wrong place, or an attack on whoever reads the log."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logging.getLogger().addHandler(Keep())

    house.post(b"canary-body", {"X-GCS-KeyId": "canary-key", "X-GCS-Signature": "canary-signature"})

    assert lines
    assert [line for line in lines if "canary" in line or SECRET in line] == []


def test_each_bit_of_the_body_is_signed(house: House, unlogged: None) -> None:
    """Changed in any of its 6,120 bits, the published body is forged."""
    statuses = {house.post(body, PUBLISHED_HEADERS).status_code for body in flipped(PUBLISHED)}

    assert statuses == {401}
    assert house.rows() == []


def test_each_bit_of_the_signature_counts(house: House, unlogged: None) -> None:
    """Also the last two, which base64 does not use."""
    statuses = set()
    for signature in flipped(PUBLISHED_HEADERS["X-GCS-Signature"].encode()):
        environment = {"HTTP_X_GCS_KEYID": KEY_ID, "HTTP_X_GCS_SIGNATURE": signature.decode("latin-1")}
        statuses.add(house.client.post("/webhooks", data=PUBLISHED, environ_overrides=environment).status_code)

    assert statuses == {401}
    assert house.rows() == []


@pytest.mark.parametrize("change", [b" ", b"\n", b"\r\n", b"\0"])
def test_nothing_may_be_added_to_a_body(house: House, change: bytes) -> None:
    """Neither before nor after it, white space included."""
    statuses = [house.post(body, PUBLISHED_HEADERS).status_code for body in (PUBLISHED + change, change + PUBLISHED)]

    assert statuses == [401, 401]


# What is no webhook


@pytest.mark.parametrize("length", [0, 1, LIMIT - 1, LIMIT])
def test_a_body_up_to_the_limit_is_taken(house: House, length: int) -> None:
    """256 KiB, the last byte included."""
    assert house.post(b"x" * length).status_code == 204


def test_a_body_over_the_limit_is_refused_before_it_is_looked_at(house: House) -> None:
    """413 by its length, whoever signed it."""
    body = b"x" * (LIMIT + 1)

    answer = house.post(body)

    assert answer.status_code == 413
    assert house.rows() == []


@pytest.mark.parametrize(("length", "status"), [(0, 204), (1000, 204), (LIMIT, 204), (LIMIT + 1, 413), (10**6, 413)])
def test_a_body_of_unknown_length_has_the_same_limit(house: House, length: int, status: int) -> None:
    """Sent in chunks it has no length: it is read to the limit and one byte further, never cut short in silence."""
    body = b"x" * length
    chunked = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}

    answer = house.client.post("/webhooks", headers=signed(body), environ_overrides=chunked)

    assert answer.status_code == status
    assert [row.body for row in house.rows()] == [body] * (status == 204)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "GZIP"])
def test_a_compressed_body_is_refused(house: House, encoding: str) -> None:
    """415: what was signed is the bytes as they were sent, and unpacking could fill the memory."""
    body = event_body()

    answer = house.post(body, {**signed(body), "Content-Encoding": encoding})

    assert answer.status_code == 415
    assert house.rows() == []


def test_a_body_said_to_be_uncompressed_is_taken(house: House) -> None:
    """`identity` is no compression."""
    body = event_body()

    assert house.post(body, {**signed(body), "Content-Encoding": "identity"}).status_code == 204


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense", ""]
)
def test_what_a_body_is_called_makes_no_difference(house: House, kind: str) -> None:
    """Only its bytes are signed; a form is not parsed away before they are read."""
    body = b"a=1&b=2"

    assert house.post(body, {**signed(body), "Content-Type": kind}).status_code == 204
    assert house.rows()[0].body == body


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "GET"])
def test_another_method_is_refused(house: House, method: str) -> None:
    """405, and what would be right."""
    body = event_body()

    answer = house.client.open("/webhooks", method=method, data=body, headers=signed(body))

    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert house.rows() == []


@pytest.mark.parametrize(
    "path", ["/", "/webhooks/", "/webhooks/x", "/Webhooks", "/metrics/x", "//webhooks", "/static/x"]
)
def test_there_is_nothing_elsewhere(house: House, path: str) -> None:
    """404 in plain text."""
    answer = house.client.post(path, data=b"x")

    assert answer.status_code == 404
    assert answer.mimetype == "text/plain"


def test_no_refusal_is_a_page(house: House) -> None:
    """Every refusal is a short plain text that no browser takes for anything else."""
    answers = [
        house.client.put("/webhooks"),
        house.client.get("/nowhere"),
        house.post(b"x", {}),
        house.post(b"x" * (LIMIT + 1)),
        house.post(b"", {"Content-Encoding": "gzip"}),
    ]

    assert [answer.mimetype for answer in answers] == ["text/plain"] * 5
    assert [answer.headers["X-Content-Type-Options"] for answer in answers] == ["nosniff"] * 5
    assert max(len(answer.data) for answer in answers) < 100


# The platform's verification of the endpoint

VERIFICATION = "X-GCS-Webhooks-Endpoint-Verification"


@pytest.mark.parametrize("value", ["a", "0f09e8b2-7a6c-4e0e", "A" * 256, "dGVzdA==", "a.b_c~d+e/f=g-h"])
def test_the_endpoint_says_back_what_the_platform_sent(house: House, value: str) -> None:
    """200, the value and nothing else, as plain text."""
    answer = house.client.get("/webhooks", headers={VERIFICATION: value})

    assert (answer.status_code, answer.text, answer.mimetype) == (200, value, "text/plain")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "value", ["", " ", "A" * 257, "<script>", "a b", "a\tb", 'a"b', "a'b", "a;b", "a%0d%0ab", "ü", "{}", "a,b"]
)
def test_what_could_be_taken_for_markup_is_not_said_back(house: House, value: str) -> None:
    """405, as without the header."""
    answer = house.client.get("/webhooks", headers={VERIFICATION: value})

    assert answer.status_code == 405
    assert not value.strip() or value not in answer.text


def test_verifying_the_endpoint_needs_no_database(open_house: OpenHouse) -> None:
    """The platform may ask at any time."""
    house = open_house(database_url=f"postgresql+psycopg://payhook@127.0.0.1:{free_port()}/payhook")

    assert house.client.get("/webhooks", headers={VERIFICATION: "x"}).status_code == 200


# What is unreachable


def test_without_the_database_the_platform_is_asked_to_come_again(open_house: OpenHouse) -> None:
    """503 with a time to come again, for what is genuine; what is forged is refused all the same."""
    house = open_house(database_url=f"postgresql+psycopg://payhook@127.0.0.1:{free_port()}/payhook")

    genuine, forged = house.post(event_body()), house.post(b"x", {})

    assert genuine.status_code == 503
    assert int(genuine.headers["Retry-After"]) > 0
    assert genuine.mimetype == "text/plain"
    assert forged.status_code == 401
    assert house.doorbell.rung == []


def test_without_the_key_store_only_known_keys_verify(open_house: OpenHouse, tmp_path: Path) -> None:
    """A key that is known goes on verifying; whether another one exists cannot be said, so: come again."""
    keys = tmp_path / "keys.json"
    keys.touch(0o600)
    keys.write_text(f'{{"{KEY_ID}": "{SECRET}"}}')
    house = open_house(key_store=f"file:{keys}", key_refresh_seconds=0.1)
    assert house.post(event_body()).status_code == 204
    keys.unlink()
    time.sleep(0.5)

    known, unknown = house.post(event_body()), house.post(b"x", signed(b"x", key_id="another"))

    assert known.status_code == 204
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "5")


def test_a_key_store_that_never_answered_asks_the_platform_to_come_again(open_house: OpenHouse, tmp_path: Path) -> None:
    """No key was ever read, so nothing is refused for good."""
    house = open_house(key_store=f"file:{tmp_path / 'nowhere.json'}")

    assert house.post(event_body()).status_code == 503


def test_whatever_breaks_the_event_is_sent_again(house: House) -> None:
    """No 500: what is not known to be stored is asked for again, and the text of what broke is told to nobody."""
    with house.desk.database.transaction() as connection:
        connection.execute(text("DROP TABLE webhook_events"))

    answer = house.post(event_body())

    assert answer.status_code == 503
    assert answer.text == "try again\n" or "webhook_events" not in answer.text


def test_a_frozen_database_is_answered_for_in_time(
    open_house: OpenHouse, postgres_url: str, postgres_server: PostgresServer
) -> None:
    """Sixteen at once get their 503 within three seconds, the next ones at once; then 204 again, without a restart."""
    migrate(postgres_url)
    house = open_house(database_url=postgres_url)
    assert house.post(event_body()).status_code == 204
    bodies = [event_body() for _ in range(16)]

    def post(body: bytes) -> tuple[int, float]:
        begin = time.monotonic()
        answer = house.client.application.test_client().post("/webhooks", data=body, headers=signed(body))
        return answer.status_code, time.monotonic() - begin

    postgres_server.freeze()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(post, bodies))
    later = [post(event_body()) for _ in range(5)]
    postgres_server.thaw()
    deadline = time.monotonic() + 10
    while post(bodies[0])[0] != 204 and time.monotonic() < deadline:
        time.sleep(0.05)

    assert {status for status, _ in answers + later} == {503}
    assert max(seconds for _, seconds in answers) < 3
    assert max(seconds for _, seconds in later) < 0.5
    assert post(bodies[1])[0] == 204


def test_what_is_answered_204_is_there_after_a_crash(open_house: OpenHouse) -> None:
    """The commit comes before the answer: another connection sees the row."""
    house = open_house()
    body = event_body()
    house.post(body)

    other = Database(house.desk.settings.database_url.get_secret_value(), connections=1, seconds=2, revision=None)
    with other.reading() as connection:
        bodies = connection.execute(select(WebhookEvent.body)).scalars().all()
    other.close()

    assert bodies == [body]


def test_nothing_is_answered_before_the_commit(house: House) -> None:
    """While another process keeps the file locked there is no 204."""
    import sqlite3

    path = house.desk.settings.database_url.get_secret_value().removeprefix("sqlite:///")
    lock = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN IMMEDIATE")

    begin = time.monotonic()
    threading.Timer(0.7, lock.execute, ("ROLLBACK",)).start()
    answer = house.post(event_body())

    assert answer.status_code == 204
    assert time.monotonic() - begin > 0.5


# Both servers, over real sockets


@pytest.fixture(scope="module", params=["up", "serve"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of `payhook up` (waitress) and of `payhook serve` (gunicorn), each on SQLite, in turn."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = {
        "DATABASE_URL": f"sqlite:///{folder / 'payhook.db'}",
        "KEY_STORE": "memory:",
        "WEBHOOK_KEYS": f"{KEY_ID}={SECRET}",
        "MERCHANT_ID": "acme",
        "API_KEY_ID": "k",
        "API_SECRET": "s",
        "API_ENDPOINT": f"http://127.0.0.1:{free_port()}",
    }
    if request.param == "serve":
        migrate(settings["DATABASE_URL"])
        settings["BROKER_URL"] = f"amqp://127.0.0.1:{free_port()}//"
    port = free_port()
    process = Process(
        request.param,
        [program("payhook"), request.param, "--port", str(port)],
        folder=folder,
        env={f"PAYHOOK_{name}": value for name, value in settings.items()},
        cwd=folder,
    )
    process.start()
    process.wait_until(f"http://127.0.0.1:{port}/health/live")
    yield port
    process.kill()


def ask(port: int, request: bytes, seconds: float = 10) -> tuple[int, bytes]:
    """The status and the whole answer to what is sent as it stands; 0 when the server just hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        try:
            connection.sendall(request)
            answer = b""
            while more := connection.recv(65536):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            pass
    return int(answer[9:12] or b"0"), answer


def post_of(body: bytes, *headers: bytes, chunks: int | None = None) -> bytes:
    """A POST as bytes: with its length, or in chunks of a size."""
    lines = [b"POST /webhooks HTTP/1.1", b"Host: x", b"Connection: close", *headers]
    if chunks is None:
        return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])
    pieces = [body[start : start + chunks] for start in range(0, len(body), chunks)]
    sent = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", sent])


def as_lines(headers: dict[str, str]) -> list[bytes]:
    return [f"{name}: {value}".encode("latin-1") for name, value in headers.items()]


def test_a_genuine_event_is_taken_over_a_socket(server: int) -> None:
    """By its length or in chunks, the published vector included."""
    body = event_body()

    assert ask(server, post_of(PUBLISHED, *as_lines(PUBLISHED_HEADERS)))[0] == 204
    assert ask(server, post_of(body, *as_lines(signed(body))))[0] == 204
    assert ask(server, post_of(body, *as_lines(signed(body)), chunks=7))[0] == 204


@pytest.mark.parametrize("chunks", [None, 4096], ids=["by its length", "in chunks"])
def test_a_body_at_the_limit_is_taken_over_a_socket(server: int, chunks: int | None) -> None:
    """256 KiB, however it is sent."""
    body = b"y" * LIMIT

    assert ask(server, post_of(body, *as_lines(signed(body)), chunks=chunks))[0] == 204


@pytest.mark.parametrize("chunks", [None, 4096, 100_000], ids=["by its length", "in chunks", "in large chunks"])
@pytest.mark.parametrize("length", [LIMIT + 1, 2 * LIMIT])
def test_a_body_over_the_limit_is_refused_over_a_socket(server: int, length: int, chunks: int | None) -> None:
    """413 however it is sent: cut short in silence, its signature would be blamed."""
    body = b"z" * length

    assert ask(server, post_of(body, *as_lines(signed(body)), chunks=chunks))[0] == 413


def test_a_sample_of_changed_bits_is_refused_over_a_socket(server: int) -> None:
    """Of the body: 401. Of the signature: 401, or 400 where it is no header any more."""
    signature = PUBLISHED_HEADERS["X-GCS-Signature"].encode("latin-1")
    bodies = [body for number, body in enumerate(flipped(PUBLISHED)) if number % 611 == 0]
    signatures = [changed for number, changed in enumerate(flipped(signature)) if number % 29 == 0]
    key = f"X-GCS-KeyId: {KEY_ID}".encode()

    of_bodies = {ask(server, post_of(body, *as_lines(PUBLISHED_HEADERS)))[0] for body in bodies}
    of_signatures = {ask(server, post_of(PUBLISHED, key, b"X-GCS-Signature: " + changed))[0] for changed in signatures}

    assert of_bodies == {401}
    assert of_signatures <= {400, 401}
    assert 401 in of_signatures


def test_every_forgery_gets_the_same_answer_over_a_socket(server: int) -> None:
    """A server joins doubled headers; that, too, is 401, and no answer differs from another but for its date."""
    answers = set()
    for headers in forgeries().values():
        lines = headers if isinstance(headers, list) else list(headers.items())
        request = post_of(b"body", *(f"{name}: {value}".encode("latin-1") for name, value in lines))
        status, answer = ask(server, request)
        assert status == 401
        answers.add(b"\r\n".join(line for line in answer.split(b"\r\n") if not line.lower().startswith(b"date:")))

    assert len(answers) == 1


def test_a_header_with_underscores_is_not_the_real_one(server: int) -> None:
    """WSGI cannot tell them apart, so the servers drop it."""
    lines = [b"X_GCS_KeyId: " + KEY_ID.encode(), b"X_GCS_Signature: " + signature_of(b"body").encode()]

    assert ask(server, post_of(b"body", *lines))[0] in (400, 401)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE", "GET"])
def test_another_method_is_refused_over_a_socket(server: int, method: str) -> None:
    """405."""
    request = f"{method} /webhooks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

    assert ask(server, request.encode())[0] == 405


def test_a_header_without_end_is_refused(server: int) -> None:
    """None of ours has more than a few dozen characters."""
    assert ask(server, post_of(b"body", b"X-Long: " + b"x" * 100_000))[0] in (0, 400, 431)


def test_a_client_that_leaves_in_the_middle_harms_nobody(server: int) -> None:
    """Half a body is never stored, and the next event is taken."""
    body = event_body()
    whole = post_of(body, *as_lines(signed(body)))
    for end in (5, 60, len(whole) - 10):
        with socket.create_connection(("127.0.0.1", server), timeout=5) as connection:
            connection.sendall(whole[:end])

    assert ask(server, whole)[0] == 204


def test_one_connection_carries_many_events(server: int) -> None:
    """The platform may keep it open."""
    connection = http.client.HTTPConnection("127.0.0.1", server, timeout=10)
    statuses = []
    for _ in range(20):
        body = event_body()
        connection.request("POST", "/webhooks", body, signed(body))
        answer = connection.getresponse()
        statuses.append((answer.status, answer.read()))
    connection.close()

    assert set(statuses) == {(204, b"")}


def test_the_server_does_not_name_itself_with_its_version(server: int) -> None:
    """Which bugs it has is nobody's business."""
    _, answer = ask(server, post_of(b"", b"X: y"))

    servers = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"server:")]
    assert not any(character in b"0123456789" for line in servers for character in line)
