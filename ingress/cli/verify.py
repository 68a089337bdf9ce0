"""`payhook verify`: does a received webhook's signature hold and, if not, why."""

import json
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import SecretStr

from ingress.cli import DATABASE_SECONDS, Refused, json_option, print_json, settings
from ingress.cli.keys import read_secret
from ingress.diagnosis import diagnose
from ingress.key_stores import KeyStoreUnavailable, WebhookKey, open_key_store
from worker.database import open_database

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

#: More than any webhook has, in bytes; a wrong path must not fill the memory.
MOST_BYTES = 4 * 1024 * 1024


@click.command()
@click.option("--headers", "headers_file", metavar="F", type=FILE, required=True, help="The headers as received.")
@click.option("--body", "body_file", metavar="F", type=FILE, required=True, help="The body as received, to the byte.")
@click.option("--secret-file", metavar="F", type=FILE, help="File that holds the secret; else the key store is asked.")
@json_option
def verify(headers_file: Path, body_file: Path, secret_file: Path | None, as_json: bool) -> None:
    """Say whether a webhook's signature holds and, if not, why.

    The headers are lines of "Name: value", as `curl -v` and access logs show them, or a JSON object.
    """
    headers = headers_of(_content(headers_file).decode("utf-8", "replace"))
    keys = _keys_of_store() if secret_file is None else WebhookKey(SecretStr(read_secret(str(secret_file))))
    verdict = diagnose(_content(body_file), headers, keys)
    if as_json:
        print_json({"holds": verdict.holds, "reason": verdict.reason, "told": verdict.told, "key_id": verdict.key_id})
    else:
        click.echo(f"{'genuine' if verdict.holds else verdict.reason}: {verdict.told}")
    if not verdict.holds:
        raise SystemExit(1)


def headers_of(text: str) -> list[tuple[str, str]]:
    """Names and values of a JSON object, or of lines; what stands around them in the output of tools is let pass.

    Raises:
        Refused: no header is in it.
    """
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        found = [(name, str(each)) for name, value in parsed.items() for each in _each(value)]
    else:
        lines = (line.lstrip("<> \t").partition(":") for line in text.splitlines())
        found = [(name.strip(), value.strip()) for name, colon, value in lines if colon and " " not in name.strip()]
    if not found:
        raise Refused('no header is in that file; it has lines like "X-GCS-KeyId: my-key" or is a JSON object')
    return found


def _each(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read ({type(error).__name__})") from None
    if len(content) > MOST_BYTES:
        raise Refused(f"{path} is over {MOST_BYTES // 1024 // 1024} MiB: no webhook is")
    return content


def _keys_of_store() -> Mapping[str, WebhookKey]:
    chosen = settings()
    database = open_database(chosen, threads=1, seconds=DATABASE_SECONDS)
    try:
        return open_key_store(chosen, database).load()
    except KeyStoreUnavailable as error:
        raise Refused(f"the webhook keys cannot be read: {error}; or give the secret with --secret-file") from None
    finally:
        database.close()
