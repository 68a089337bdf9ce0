"""`make prove`: the proofs in full, then every mutant; ends 0 when all hold, and writes docs/proof.md."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.proof.fixtures import SEED
from tests.proof.mutants import MUTANTS, ROOT, Mutant, Unusable, failures
from tests.proof.report import Fate, Run, write

PAGE = ROOT / "docs" / "proof.md"


def main() -> int:
    given = _arguments()
    chosen = tuple(mutant for mutant in MUTANTS if not given.mutant or mutant.name in given.mutant)
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="payhook-proof-") as folder:
        figures = Path(folder) / "figures.jsonl"
        figures.touch()
        held = given.mutant or _prove(figures, given.seed)
        fates = [_fate_of(mutant) for mutant in chosen] if _holds_without_a_mutant(chosen) else []
        if not given.mutant:
            write(PAGE, Run(began, given.seed, bool(held), figures, fates))
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
    return parser.parse_args()


def _prove(figures: Path, seed: int) -> bool:
    options = ["-m", "proof", "--proof=full", f"--seed={seed}", f"--figures={figures}", "-s", "-v"]
    return subprocess.run([sys.executable, "-m", "pytest", *options], cwd=ROOT).returncode == 0


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
