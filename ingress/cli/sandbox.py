"""`payhook sandbox`: the platform in miniature, for trying payhook out without an account."""

import click

from ingress.cli.processes import address


@click.command()
@address(8081)
def sandbox(host: str, port: int) -> None:
    """The payment platform in miniature, over HTTP. Prints its address and credentials; docs/sandbox.md tells more."""
    from sandbox import serve  # noqa: PLC0415 - for this command only

    serve(host, port)
