"""`payhook send` and `payhook verify`: sign and post a webhook; say why a signature does not hold."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from onlinepayments.sdk.communication.request_header import RequestHeader
from onlinepayments.sdk.json.default_marshaller import DefaultMarshaller
from onlinepayments.sdk.webhooks.secret_key_store import SecretKeyStore
from onlinepayments.sdk.webhooks.webhooks_helper import WebhooksHelper

from ingress.cli import main
from ingress.cli.sample_events import SAMPLES, event
from ingress.signatures import signature_of

SECRET = "a-secret-of-more-than-24-bytes"


class OneKey(SecretKeyStore):  # type: ignore[misc]
    def get_secret_key(self, key_id: str) -> str:
        return SECRET


class Door:
    """Takes what is posted and answers as told."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 204
        self.received: list[tuple[list[tuple[str, str]], bytes]] = []


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            door.received.append((list(self.headers.items()), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(door.status)
            self.end_headers()
            if door.status != 204:
                self.wfile.write(b"try again")

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    door.url = f"http://127.0.0.1:{server.server_address[1]}/webhooks"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield door
    server.shutdown()
    server.server_close()


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return str(file)


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"PAYHOOK_ENV_FILE": None, **environment})


@pytest.mark.parametrize("name", SAMPLES)
def test_every_event_is_genuine_and_understood_by_the_sdk(door: Door, secret_file: str, name: str) -> None:
    """Signed over the very bytes that are posted; the SDK reads back type and object."""
    result = run("send", name, "--url", door.url, "--key-id", "key-1", "--secret-file", secret_file)

    headers, body = door.received[0]
    read = WebhooksHelper(DefaultMarshaller.instance(), OneKey()).unmarshal(body, [RequestHeader(*h) for h in headers])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("204 No Content after ")
    assert read.type == name
    assert (read.refund or read.payment).status_output.status_code == SAMPLES[name].code


def test_fields_of_an_event_can_be_set(door: Door, secret_file: str) -> None:
    """Numbers and true are what they look like, other text is text; what is not there is made."""
    changes = ("payment.paymentOutput.amountOfMoney.amount=500", "merchantId=shop", "payment.a.b=true", 'id="7"')
    arguments = [part for change in changes for part in ("--set", change)]

    run("send", "payment.captured", "--url", door.url, "--key-id", "k", "--secret-file", secret_file, *arguments)

    body = json.loads(door.received[0][1])
    assert body["payment"]["paymentOutput"]["amountOfMoney"] == {"amount": 500, "currencyCode": "EUR"}
    assert (body["merchantId"], body["payment"]["a"], body["id"]) == ("shop", {"b": True}, "7")


def test_a_file_is_sent_as_it_is(door: Door, secret_file: str, tmp_path: Path) -> None:
    """To the byte, whatever it holds."""
    file = tmp_path / "body.json"
    file.write_bytes(b"\xff not json\r\n")

    result = run("send", str(file), "--url", door.url, "--key-id", "k", "--secret-file", secret_file)

    assert result.exit_code == 0
    assert door.received[0][1] == b"\xff not json\r\n"


@pytest.mark.parametrize(("status", "said"), [(401, "401 Unauthorized after"), (503, "503 Service Unavailable after")])
def test_a_refusal_ends_with_what_was_said(door: Door, secret_file: str, status: int, said: str) -> None:
    """Exit code 1, the answer's status and text."""
    door.status = status

    result = run("send", "payment.test", "--url", door.url, "--key-id", "k", "--secret-file", secret_file)

    assert result.exit_code == 1
    assert said in result.output
    assert "try again" in result.output


def test_nobody_there_is_told(secret_file: str) -> None:
    """With what to start."""
    url = "http://127.0.0.1:9/webhooks"

    result = run("send", "payment.test", "--url", url, "--key-id", "k", "--secret-file", secret_file)

    assert result.exit_code == 1
    assert f"{url} did not answer" in result.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere.json"], "neither an event nor a file that can be read"),
        (["payment.test", "--set", "no-equals"], "is not PATH=VALUE"),
        (["payment.test", "--set", "id.inside=1"], "leads through something that has no parts"),
        ([__file__, "--set", "id=1"], "a file's bytes are sent as they are"),
    ],
)
def test_what_cannot_be_sent_is_wrong_usage(secret_file: str, arguments: list[str], told: str) -> None:
    """Exit code 2, before anything is sent."""
    result = run("send", *arguments, "--key-id", "k", "--secret-file", secret_file)

    assert result.exit_code == 2
    assert told in result.output


def test_what_is_printed_can_be_verified(secret_file: str, tmp_path: Path) -> None:
    """`--print` posts nothing; its two parts are what `verify` takes."""
    printed = run("send", "payment.captured", "--print", "--key-id", "key-1", "--secret-file", secret_file).output
    head, _, body = printed.partition("\n\n")

    result = verify(tmp_path, head, body.encode(), "--secret-file", secret_file)

    assert result.exit_code == 0
    assert result.output.startswith("genuine: the signature holds: signed with key-1")


def verify(folder: Path, head: str, body: bytes, *arguments: str, **environment: str) -> Result:
    (folder / "headers").write_text(head)
    (folder / "body").write_bytes(body)
    return run(
        "verify", "--headers", str(folder / "headers"), "--body", str(folder / "body"), *arguments, **environment
    )


def signed(body: bytes) -> dict[str, str]:

    return {"X-GCS-KeyId": "key-1", "X-GCS-Signature": signature_of(body, SECRET.encode())}


@pytest.mark.parametrize(
    "write",
    [
        lambda headers: "".join(f"{name}: {value}\r\n" for name, value in headers.items()),
        lambda headers: "".join(f"> {name.lower()}: {value}\n" for name, value in headers.items()),
        lambda headers: "POST /webhooks HTTP/1.1\n" + "".join(f"{name}: {value}\n" for name, value in headers.items()),
        json.dumps,
        lambda headers: json.dumps({name: [value] for name, value in headers.items()}),
    ],
)
def test_headers_are_read_as_tools_write_them(secret_file: str, tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    """Lines, lines of `curl -v`, with a request line, JSON with texts or lists."""
    body = event("payment.captured")

    assert verify(tmp_path, write(signed(body)), body, "--secret-file", secret_file).exit_code == 0


def test_why_it_does_not_hold_is_told(secret_file: str, tmp_path: Path) -> None:
    """Exit code 1, a word and a sentence; as JSON for programs."""
    body = event("payment.captured")
    head = json.dumps(signed(body))

    shown = verify(tmp_path, head, body + b"\n", "--secret-file", secret_file)
    as_json = verify(tmp_path, head, body + b"\n", "--secret-file", secret_file, "--json")

    assert shown.exit_code == as_json.exit_code == 1
    assert shown.output.startswith("body-changed: the body was changed on the way: a line end was added at its end")
    assert json.loads(as_json.output)["reason"] == "body-changed"


def test_without_a_secret_the_key_store_is_asked(tmp_path: Path) -> None:
    """Then it can tell an unknown key too."""
    body = event("payment.captured")
    store = {"PAYHOOK_KEY_STORE": "memory:", "PAYHOOK_DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}"}

    known = verify(tmp_path, json.dumps(signed(body)), body, **store, PAYHOOK_WEBHOOK_KEYS=f"key-1={SECRET}")
    unknown = verify(tmp_path, json.dumps(signed(body)), body, **store, PAYHOOK_WEBHOOK_KEYS="key-2=x")

    assert known.exit_code == 0, known.output
    assert unknown.exit_code == 1
    assert "unknown-key: there is no key key-1; known are key-2." in unknown.output


def test_a_file_without_headers_is_refused(secret_file: str, tmp_path: Path) -> None:
    """With what should be in it."""
    result = verify(tmp_path, "nothing here\n", b"{}", "--secret-file", secret_file)

    assert result.exit_code == 1
    assert 'lines like "X-GCS-KeyId: my-key"' in result.output
