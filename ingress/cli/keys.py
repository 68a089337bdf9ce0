"""`payhook keys`: the webhook secrets, kept in the database or in a JSON file."""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog

from ingress.cli import Commands, Refused, actor, json_option, logged, opened, print_json, settings
from ingress.cli.tables import print_table
from ingress.cli.times import age, duration, moment
from ingress.key_stores import (
    KeyRefused,
    KeyStoreUnavailable,
    WebhookKey,
    database,
    encryption_keys,
    file,
    kind_of_store,
)
from ingress.key_stores.key_store import KEY_ID, MAX_FILE_BYTES, new_key
from worker.settings import PREFIX, Settings

log = structlog.get_logger("payhook.keys")

#: Standard Webhooks asks for 24 to 64 random bytes; the platform's own secrets are longer than this.
STRONG_SECRET_BYTES = 24

MERCHANT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
COLUMNS = ("key_id", "state", "merchant_id", "age", "not_after", "last_used_at")

#: The platform sends a webhook again after 10 min, 1 h, 2 h, 8 h and 24 h, and it is not known that it signs anew.
RETRIES_SPAN = timedelta(hours=35, minutes=10)


@dataclass(frozen=True)
class Place:
    """Where keys can be changed by a command."""

    name: str
    add: Callable[[str, WebhookKey], bool]
    retire: Callable[[str, timedelta], datetime | None]
    remove: Callable[[str], bool]
    list: Callable[[], list[dict[str, Any]]]


def check_key_id(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not KEY_ID.fullmatch(value):
        raise click.BadParameter("a key id is 1 to 128 of the characters A-Z a-z 0-9 . _ -")
    return value


def check_merchant(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not MERCHANT_ID.fullmatch(value):
        raise click.BadParameter("a merchant id is 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return value


def check_time(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    if value is None:
        return None
    time = moment(value)
    if time <= datetime.now(UTC):
        raise click.BadParameter("that time has passed: the key would verify nothing")
    return time.replace(microsecond=0)


key_id_argument = click.argument("key_id", callback=check_key_id)


@click.group(cls=Commands)
def keys() -> None:
    """The webhook keys: ids and secrets that the platform signs webhooks with."""


@keys.command()
@key_id_argument
@click.option(
    "--secret-file",
    metavar="F",
    type=click.Path(exists=True, dir_okay=False),
    help="File that holds the secret; standard input if not given.",
)
@click.option("--not-after", metavar="T", callback=check_time, help="When it stops verifying, as 2030-01-31T12:00:00Z.")
@click.option("--merchant", metavar="M", callback=check_merchant, help="The one merchant it may speak for.")
def add(key_id: str, secret_file: str | None, not_after: datetime | None, merchant: str | None) -> None:
    """Add the key KEY_ID; its secret is never an argument, which others on the machine could see."""
    with open_place(settings(), adding=True) as place:
        try:
            key = new_key(key_id, read_secret(secret_file), not_after=not_after, merchant_id=merchant)
        except ValueError as error:
            raise Refused(f"{key_id} was not added: {error}") from None
        if len(key.secret.get_secret_value().encode()) < STRONG_SECRET_BYTES:
            click.echo(f"Warning: the secret has fewer than {STRONG_SECRET_BYTES} bytes; it can be guessed.", err=True)
        added = place.add(key_id, key)
    if added:
        _tell("key.added", key_id, place, merchant_id=merchant)
    click.echo(f"{key_id} added to {place.name}." if added else f"{key_id} is in {place.name} already; unchanged.")


@keys.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the keys, without their secrets."""
    with open_place(settings()) as place:
        rows = place.list()
    if as_json:
        print_json(rows)
        return
    print_table(COLUMNS, [[{**row, "age": age(row["created_at"])}[column] for column in COLUMNS] for row in rows])


@keys.command()
@key_id_argument
@click.option(
    "--after",
    metavar="D",
    default="36h",
    show_default=True,
    callback=lambda _context, _parameter, value: duration(value),
    help="How long it still verifies: 36h, 90m or 2d.",
)
def retire(key_id: str, after: timedelta) -> None:
    """Let the key KEY_ID end: it verifies what is sent again, until the platform sends no more."""
    with open_place(settings()) as place:
        end = place.retire(key_id, after)
        if end is None:
            raise Refused(f"there is no key {key_id} in {place.name}")
        others = any(row["state"] == "active" for row in place.list())
    _tell("key.retired", key_id, place, not_after=end.isoformat(timespec="seconds"))
    until = end.isoformat(timespec="seconds")
    past = end <= datetime.now(UTC)
    click.echo(f"{key_id} retired in {place.name}; it verifies {'nothing since' if past else 'until'} {until}.")
    if after < RETRIES_SPAN:
        click.echo(
            "Warning: the platform sends a webhook again for 35 h 10 min. One that was signed with this key and not "
            "taken by then is refused, and in the end lost.",
            err=True,
        )
    if not others:
        click.echo("Warning: no other key is active; add the next one with `payhook keys add`.", err=True)


@keys.command("rotate-encryption")
def rotate_encryption() -> None:
    """Encrypt every secret in the database anew, with the first of the encryption keys."""
    chosen = settings()
    if kind_of_store(chosen)[0] != "database":
        raise Refused(f"nothing is encrypted in {PREFIX}KEY_STORE={chosen.key_store}; only database: is")
    with opened(chosen) as ours:
        outcomes = database.rotate_encryption(ours, encryption_keys(chosen, create=False), actor=actor())
    counted = Counter(outcomes.values())
    with logged(chosen):
        log.warning("keys.rotated", security=True, actor=actor(), count=counted["encrypted anew"])
    click.echo(f"{counted['encrypted anew']} encrypted anew, {counted['already']} were already.")
    unreadable = [key_id for key_id, outcome in outcomes.items() if outcome == "unreadable"]
    if unreadable:
        raise Refused(
            f"left as they are, since no encryption key given decrypts them: {', '.join(unreadable)}. Give the one "
            "they were added under too, or remove them and add them again"
        )


@keys.command()
@key_id_argument
def remove(key_id: str) -> None:
    """Remove the key KEY_ID for good: within seconds, what it signed is refused."""
    with open_place(settings()) as place:
        if not place.remove(key_id):
            raise Refused(f"there is no key {key_id} in {place.name}")
    _tell("key.removed", key_id, place)
    click.echo(f"{key_id} removed from {place.name}.")


def _tell(event: str, key_id: str, place: Place, **about: Any) -> None:
    with logged(settings()):
        log.warning(event, security=True, key_id=key_id, actor=actor(), place=place.name, **about)


@contextmanager
def open_place(chosen: Settings, *, adding: bool = False) -> Iterator[Place]:
    """Where the settings say that keys are kept, if a command can change them there."""
    kind, rest = kind_of_store(chosen)
    try:
        if kind == "database":
            with _database_place(chosen, adding=adding) as place:
                yield place
        elif kind == "file":
            yield _file_place(Path(rest))
        elif kind == "memory":
            raise Refused(f"the keys are kept in the setting {PREFIX}WEBHOOK_KEYS: change them there, and start again")
        else:
            raise Refused(f"the keys are kept by {chosen.key_store}, not by payhook: change them there")
    except (KeyRefused, KeyStoreUnavailable) as error:
        raise Refused(str(error)) from None


@contextmanager
def _database_place(chosen: Settings, *, adding: bool) -> Iterator[Place]:
    with opened(chosen) as ours:  # no encryption key is made for a database that is not there
        encryption = encryption_keys(chosen, create=True) if adding else []
        yield Place(
            name="the database",
            add=partial(database.add_key, ours, encryption, actor=actor()),
            retire=partial(database.retire_key, ours, actor=actor()),
            remove=partial(database.remove_key, ours, actor=actor()),
            list=partial(database.list_keys, ours),
        )


def _file_place(path: Path) -> Place:
    if path.is_dir():
        raise Refused(f"the keys are kept in the directory {path}, a file for each, named by its id: change them there")
    return Place(
        name=str(path),
        add=partial(file.add_key, path),
        retire=partial(file.retire_key, path),
        remove=partial(file.remove_key, path),
        list=partial(file.list_keys, path),
    )


def read_secret(path: str | None) -> str:
    """The secret of a file or of standard input, without the line end an editor leaves; asked for on a terminal."""
    if path is None and _is_terminal():
        return str(click.prompt("Secret (not shown)", hide_input=True))
    try:
        with click.open_file(path or "-", "rb") as source:
            content: bytes = source.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8").rstrip("\r\n")
    except OSError as error:
        raise Refused(f"{path or 'standard input'} cannot be read ({type(error).__name__})") from None
    except UnicodeDecodeError:
        raise Refused("the secret is not UTF-8 text") from None
    if len(content) > MAX_FILE_BYTES:
        raise Refused(f"{path or 'standard input'} is over {MAX_FILE_BYTES // 1024} KiB: not a secret")
    return text


def _is_terminal() -> bool:
    return sys.stdin.isatty()
