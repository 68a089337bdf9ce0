"""`python -m benchmarks`: all of them, or those named; the tables go into docs/performance.md."""

from pathlib import Path

import click

from benchmarks import acknowledgements, drain, growth, operating, report
from benchmarks.report import Tables
from benchmarks.stage import Stage, open_stage

NAMES = ("acknowledgements", "drain", "growth", "operating")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--quick", is_flag=True, help="Small sizes: shows that they work, measures nothing worth keeping.")
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=report.PAGE,
    show_default=True,
    help="Where the tables go; with --quick nowhere but there, if it is given.",
)
@click.pass_context
def main(context: click.Context, names: tuple[str, ...], quick: bool, page: Path) -> None:
    """Measure payhook beside the naive version, on servers of its own."""
    given = context.get_parameter_source("page") is not click.core.ParameterSource.DEFAULT
    with open_stage() as stage:
        tables = report.conditions()
        for name in names or NAMES:
            tables |= _tables(name, stage, quick)
    for name, table in tables.items():
        click.echo(f"\n{name}\n\n{table}")
    if given or not quick:
        report.write(tables, page)


def _tables(name: str, stage: Stage, quick: bool) -> Tables:
    if name == "acknowledgements":
        size = acknowledgements.QUICK if quick else acknowledgements.Size()
        return report.acknowledgement_tables(acknowledgements.measure(stage, size, click.echo))
    if name == "drain":
        return report.drain_tables(drain.measure(stage, drain.QUICK if quick else drain.Size(), click.echo))
    if name == "operating":
        asked = operating.measure(stage, operating.QUICK if quick else operating.Size(), click.echo)
        return report.operating_tables(asked)
    return report.growth_tables(growth.measure(stage, growth.QUICK if quick else growth.Size(), click.echo))


if __name__ == "__main__":
    main()
