"""The `payhook` command: one file per group of commands."""

import getpass
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from worker import logs
from worker.database import Database, DatabaseUnavailable, open_database
from worker.settings import Settings, SettingsError, load_settings

#: A command may wait longer for the database than a webhook's sender would.
DATABASE_SECONDS = 10.0


class Refused(click.ClickException):
    """Something was refused or found wanting: exit code 1, with the reason on standard error."""

    exit_code = 1


class Commands(click.Group):
    """A group whose commands end with a sentence, not a traceback, when a setting or the database is at fault."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (SettingsError, DatabaseUnavailable) as error:
            raise Refused(str(error)) from None


def settings() -> Settings:
    """The settings of the environment and ``.env``."""
    return load_settings()


@contextmanager
def logged(chosen: Settings) -> Iterator[None]:
    """What is told of a change on standard error, beside the journal, comes out as any process's lines do."""
    logs.set_up(chosen, least=logging.WARNING)
    try:
        yield
    finally:
        logs.flush()


@contextmanager
def opened(chosen: Settings, *, threads: int = 1) -> Iterator[Database]:
    """The database of the settings, at this version's revision, for as long as a command needs it."""
    database = open_database(chosen, threads=threads, seconds=DATABASE_SECONDS)
    try:
        with logged(chosen):
            database.check()
            yield database
    finally:
        database.close()


def actor() -> str:
    """Who gives the command, for the journal."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user need not have a name
        user = str(os.getuid())
    return f"cli:{user}"[:64]


def print_json(value: Any) -> None:
    """What ``--json`` prints: one document, times in ISO 8601, money as integers."""
    json.dump(value, sys.stdout, indent=2, default=_plain)
    sys.stdout.write("\n")


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--json``, on every command that reads."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, with the columns of the schema as keys.")(
        command
    )


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    isoformat = getattr(value, "isoformat", None)
    return str(isoformat()) if isoformat else str(value)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="payhook")
def main() -> None:
    """Webhooks of the Worldline Direct payment platform, turned into a record of every payment that is kept true."""


def _register() -> None:
    from ingress.cli import (  # noqa: PLC0415 - they import this module
        demo,
        doctor,
        drift,
        events,
        keys,
        migrate,
        operations,
        payments,
        processes,
        retention,
        sandbox,
        send,
        tail,
        verify,
    )

    for command in (
        processes.up,
        processes.serve,
        processes.work,
        migrate.migrate,
        keys.keys,
        events.events,
        payments.payments,
        operations.operations,
        retention.retention,
        tail.tail,
        sandbox.sandbox,
        send.send,
        verify.verify,
        demo.demo,
        doctor.doctor,
        drift.drift,
    ):
        main.add_command(command)


_register()
