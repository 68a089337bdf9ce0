"""`payhook demo`: payhook at work against the sandbox, killed in the middle, and its record compared with the truth."""

import sys

import click


@click.command()
def demo() -> None:
    """Show payhook at work, with a kill in the middle. Needs no account, no server, no settings; half a minute."""
    from ingress.cli.demo.story import tell  # noqa: PLC0415 - the SDK, rich and the sandbox are for this command only

    sys.exit(tell())
