"""`payhook up`, `serve` and `work`: the processes. Each leaves on SIGTERM, finishing what it has begun."""

import os
import resource
from collections.abc import Callable
from typing import Any

import click

from ingress.cli import Refused, settings
from worker.policies import policies_of
from worker.settings import Settings


def address(port: int) -> Callable[..., Any]:
    """``--host`` and ``--port``, on every command that listens."""

    def options(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option("--port", default=port, show_default=True, type=click.IntRange(0, 65535))(command)
        return click.option("--host", default="127.0.0.1", show_default=True)(command)

    return options


@click.command()
@address(8080)
def up(host: str, port: int) -> None:
    """Everything in one process: ingress, worker, sweep, on SQLite. For trying out and for one small machine."""
    _leave_no_core_dump()
    from ingress.embedded import run  # noqa: PLC0415 - Celery and the SDK are not for every command

    chosen = settings()
    policies_of(chosen)  # read for its error, before anything is opened
    if not chosen.embedded_broker:
        raise Refused(
            "`up` is one process with its own broker: leave PAYHOOK_BROKER_URL out, or run `serve` and `work`"
        )
    run(chosen, host, port)


@click.command()
@address(8080)
def serve(host: str, port: int) -> None:
    """The ingress alone, on gunicorn; put nginx in front, forwarding /webhooks only."""
    _leave_no_core_dump()
    from ingress.production import Gunicorn  # noqa: PLC0415 - servers are not for every command

    chosen = settings()
    _insist_on_servers(chosen)
    Gunicorn(chosen, host, port).run()


@click.command()
@click.option("--concurrency", type=click.IntRange(1, 256), help="Processes; as many as processors by default.")
def work(concurrency: int | None) -> None:
    """A worker: reconciles payments and sweeps. Run as many as you like, on as many machines."""
    _leave_no_core_dump()
    chosen = settings()
    policies_of(chosen)  # read for its error
    _insist_on_servers(chosen)
    from worker import tasks  # noqa: PLC0415 - it reads the environment

    # Several on one machine need several names, or each would take the other's remote control for its own.
    arguments = ["worker", "--loglevel", "INFO", "--without-gossip", "--hostname", f"payhook-{os.getpid()}@%h"]
    if concurrency is not None:
        arguments += ["--concurrency", str(concurrency)]
    tasks.app.worker_main(arguments)


def _leave_no_core_dump() -> None:
    """What lies in memory, secrets too, is not written to a disk when a process dies of a fault."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _insist_on_servers(chosen: Settings) -> None:
    if chosen.embedded_broker:
        raise Refused(
            "PAYHOOK_BROKER_URL is memory://, which never leaves one process: run `payhook up`, "
            "or set amqp://… or redis://…"
        )
