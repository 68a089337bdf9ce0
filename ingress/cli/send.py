"""`payhook send`: sign a webhook as the platform would, and post it."""

import json
import time
from pathlib import Path
from typing import Any

import click
import requests

from ingress.cli import Refused
from ingress.cli.keys import check_key_id, read_secret
from ingress.cli.sample_events import SAMPLES, event
from ingress.signatures import KEY_ID_HEADER, SIGNATURE_HEADER, signature_of

TIMEOUT_SECONDS = 10.0
SHOWN_BYTES = 300  # of the answer


def check_setting(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[tuple[str, Any]]:
    changes = []
    for text in values:
        path, equals, value = text.partition("=")
        if not equals or not all(path.split(".")):
            raise click.BadParameter(
                f"{text!r} is not PATH=VALUE; for example payment.paymentOutput.amountOfMoney.amount=500"
            )
        changes.append((path, _value(value)))
    return changes


def _value(text: str) -> Any:
    """JSON if it is some, else the text itself: 500 and true are what they look like, EUR needs no quotes."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command(epilog="The events: " + ", ".join(SAMPLES))
@click.argument("event_or_file")
@click.option("--url", default="http://127.0.0.1:8080/webhooks", show_default=True, help="Where to post it.")
@click.option("--key-id", required=True, callback=check_key_id, help="The key to sign with.")
@click.option(
    "--secret-file", metavar="F", type=click.Path(exists=True, dir_okay=False), help="Its secret; else standard input."
)
@click.option(
    "--set", "changes", metavar="PATH=VALUE", multiple=True, callback=check_setting, help="Set a field of the event."
)
@click.option("--print", "only_print", is_flag=True, help="Print headers and body, and post nothing.")
def send(
    event_or_file: str, url: str, key_id: str, secret_file: str | None, changes: list[tuple[str, Any]], only_print: bool
) -> None:
    """Sign and post a webhook: a file's bytes as they are, or an event of the platform by its name."""
    body = _body(event_or_file, changes)
    headers = {
        "Content-Type": "application/json",
        KEY_ID_HEADER: key_id,
        SIGNATURE_HEADER: signature_of(body, read_secret(secret_file).encode()),
    }
    if only_print:
        click.echo("".join(f"{name}: {value}\n" for name, value in headers.items()))
        click.echo(body, nl=False)
        return
    _post(url, headers, body)


def _body(event_or_file: str, changes: list[tuple[str, Any]]) -> bytes:
    if event_or_file in SAMPLES:
        try:
            return event(event_or_file, changes)
        except ValueError as error:
            raise click.UsageError(f"--set: {error}") from None
    if changes:
        raise click.UsageError("--set is for an event of the platform; a file's bytes are sent as they are")
    try:
        return Path(event_or_file).read_bytes()
    except OSError as error:
        raise click.UsageError(
            f"{event_or_file} is neither an event nor a file that can be read ({type(error).__name__}); "
            f"the events are {', '.join(SAMPLES)}"
        ) from None


def _post(url: str, headers: dict[str, str], body: bytes) -> None:
    began = time.monotonic()
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy, no .netrc: what is signed here goes to that address only
            answer = session.post(url, data=body, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    except (requests.RequestException, ValueError) as error:
        raise Refused(
            f"{url} did not answer ({type(error).__name__}): is `payhook up` or `payhook serve` running?"
        ) from None
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    if not answer.ok or answer.is_redirect:
        said = answer.content[:SHOWN_BYTES].decode("utf-8", "replace").strip()
        raise Refused(f"{answer.status_code} {answer.reason} after {took}: {said}")
    click.echo(f"{answer.status_code} {answer.reason} after {took}")
