"""Times as people write them to a command, and as it tells them."""

import re
from datetime import UTC, datetime, timedelta

import click

UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}

_DURATION = re.compile(r"(\d{1,4})([mhd])", re.ASCII)


def duration(text: str) -> timedelta:
    """Minutes, hours or days: ``90m``, ``36h``, ``2d``.

    Raises:
        click.BadParameter: it is none.
    """
    parts = _DURATION.fullmatch(text)
    if parts is None:
        raise click.BadParameter("not a duration; for example 36h, 90m or 2d")
    return int(parts[1]) * UNITS[parts[2]]


def moment(text: str) -> datetime:
    """A time with its zone, in UTC.

    Raises:
        click.BadParameter: it is none, or has no zone.
    """
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise click.BadParameter("a time without a zone; for example 2030-01-31T12:00:00Z")
        return time.astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last year have hours that UTC has not
        raise click.BadParameter("not a time; for example 2030-01-31T12:00:00Z") from None


def age(since: datetime | None) -> str | None:
    """How long ago, in the largest unit that makes two of it."""
    if since is None:
        return None
    return _length(datetime.now(UTC) - since)


def wait(until: datetime | None) -> str:
    """How long until something is due, in the same words."""
    if until is None:
        return "never"
    left = until - datetime.now(UTC)
    return "now" if left < UNITS["m"] else f"in {_length(left)}"


def _length(time: timedelta) -> str:
    unit = next((unit for unit in "dh" if time >= 2 * UNITS[unit]), "m")
    return f"{max(0, time // UNITS[unit])}{unit}"
