"""docs/proof.md: a part that is proved again replaces what the page has of it, and nothing else."""

import json
from pathlib import Path
from typing import Any

from tests.proof.mutants import MUTANTS
from tests.proof.report import HEAD, Fate, Run, write, write_part


def line(proof: str, measured: object, promises: tuple[str, ...] = ("G2",)) -> dict[str, Any]:
    return {"proof": proof, "promises": promises, "what": "killed", "measured": str(measured), "promised": None}


def run(folder: Path, lines: list[dict[str, Any]], fates: list[Fate]) -> Run:
    figures = folder / "figures.jsonl"
    figures.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return Run(began=0.0, seed=1, held=True, figures=figures, fates=fates)


def test_a_part_replaces_its_figures_and_fates(tmp_path: Path) -> None:
    """Those of other proofs stay as they were, and each part says when it was measured."""
    page, (first, second) = tmp_path / "proof.md", MUTANTS[:2]
    whole = [line("test_a_burst", 1, ("G9",)), line("test_money_moves_once", 2)]
    write(page, run(tmp_path, whole, [Fate(first, ["x"], None, 1.0), Fate(second, [], None, 1.0)]))
    before = page.read_text()

    write_part(page, run(tmp_path, [line("test_money_moves_once", 3)], [Fate(second, ["x"], None, 1.0)]))

    after = page.read_text()
    assert after.startswith(HEAD)
    assert after.partition("## Figures")[0] == before.partition("## Figures")[0]
    assert "### G9: a burst\n\n| | measured | promised or required |\n| --- | --- | --- |\n| killed | 1 |  |\n" in after
    assert after.count("### G2: money moves once") == 1
    assert "| killed | 3 |  |" in after
    assert "| killed | 2 |  |" not in after
    assert "1 of 2 were killed" in before
    assert "2 of 2 were killed" in after


def test_a_part_with_nothing_new_changes_nothing_else(tmp_path: Path) -> None:
    """Written twice, the page is the same."""
    page = tmp_path / "proof.md"
    write(page, run(tmp_path, [line("test_a_burst", 1, ("G9",))], [Fate(MUTANTS[0], ["x"], None, 1.0)]))
    before = page.read_text()

    write_part(page, run(tmp_path, [], []))

    assert page.read_text() == before
