"""`make prove`: the proofs in full, then every mutant; ends 0 when all hold, and writes docs/proof.md.

`--only money` (or `operator`) proves a part of it again, and writes that part.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.proof.fixtures import SEED
from tests.proof.mutants import MUTANTS, ROOT, Mutant, Unusable, failures
from tests.proof.report import Fate, Run, write, write_part

PAGE = ROOT / "docs" / "proof.md"

#: Where the tests of a part are.
PARTS = {
    "money": (
        "tests/end_to_end/test_money",
        "tests/worker/gateways/test_errors",
        "tests/worker/operations/",
        "tests/worker/test_money",
        "tests/worker/test_sending",
        "tests/worker/test_settlement",
    ),
    "operator": (
        "tests/end_to_end/test_no_webhooks",
        "tests/end_to_end/test_platform_troubles",
        "tests/end_to_end/test_poison_payments",
        "tests/worker/test_rescue",
        "tests/worker/test_turns",
        "tests/worker/traffic/",
    ),
}


def main() -> int:
    given = _arguments()
    chosen = tuple(mutant for mutant in MUTANTS if _is_asked_for(mutant, given))
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="payhook-proof-") as folder:
        figures = Path(folder) / "figures.jsonl"
        figures.touch()
        held = given.mutant or _prove(figures, given.seed, given.only)
        fates = [_fate_of(mutant) for mutant in chosen] if _holds_without_a_mutant(chosen) else []
        if not given.mutant:
            writing = write_part if given.only else write
            writing(PAGE, Run(began, given.seed, bool(held), figures, fates))
            print(f"written: {PAGE.relative_to(ROOT)}")
    survived = [fate.mutant.name for fate in fates if not fate.killed]
    print(
        f"{len(fates) - len(survived)} of {len(chosen)} mutants killed" + (f"; alive: {survived}" if survived else "")
    )
    return 0 if held and len(fates) == len(chosen) and not survived else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help="what chance is drawn from")
    names = [mutant.name for mutant in MUTANTS]
    told = "only this one, and no proof in full; nothing is written"
    parser.add_argument("--mutant", action="append", choices=names, metavar="NAME", help=told)
    told = "only the proofs of this part, and their mutants; the rest of the page stays"
    parser.add_argument("--only", choices=sorted(PARTS), help=told)
    return parser.parse_args()


def _is_asked_for(mutant: Mutant, given: argparse.Namespace) -> bool:
    if given.only:
        return mutant.proof.partition("::")[0].startswith(PARTS[given.only])
    return not given.mutant or mutant.name in given.mutant


def _prove(figures: Path, seed: int, only: str | None) -> bool:
    """First what measures times, alone; then the rest, in two processes."""
    options = ["--proof=full", f"--seed={seed}", f"--figures={figures}", "-v"]
    where = [str(path.relative_to(ROOT)) for path in _files(PARTS[only])] if only else []
    alone = _pytest(*where, *options, "-s", "-m", "proof and alone")
    beside = _pytest(*where, *options, "-m", "proof and not alone", "--numprocesses=2", "--dist=worksteal")
    return alone and beside


def _files(part: tuple[str, ...]) -> list[Path]:
    return [
        path for path in sorted((ROOT / "tests").rglob("test_*.py")) if str(path.relative_to(ROOT)).startswith(part)
    ]


def _pytest(*arguments: str) -> bool:
    nothing_collected = 5
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT).returncode in (0, nothing_collected)


def _holds_without_a_mutant(mutants: tuple[Mutant, ...]) -> bool:
    """A test that fails anyway would seem to kill every mutant."""
    failed = failures(sorted({mutant.proof for mutant in mutants}), None)
    if failed:
        print(f"failed without any mutant: {failed}")
    return not failed


def _fate_of(mutant: Mutant) -> Fate:
    began = time.monotonic()
    try:
        failed, problem = failures([mutant.proof], mutant.patch), None
    except Unusable as error:
        failed, problem = [], str(error)
    fate = Fate(mutant, failed, problem, time.monotonic() - began)
    print(f"{fate.told:9} {mutant.name} ({fate.seconds:.0f} s){f': {problem}' if problem else ''}", flush=True)
    return fate


if __name__ == "__main__":
    sys.exit(main())
