"""The mutants fit the code as it is, name tests that there are, and are all in docs/proof.md."""

import re
import shutil
from pathlib import Path

import pytest

from tests.proof.mutants import MUTANTS, PATCHES, ROOT, Mutant, Unusable, apply, failures

BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def test_every_patch_is_a_mutant() -> None:
    """None lies about unused, none is missing."""
    assert sorted(path.stem for path in PATCHES.iterdir()) == sorted(BY_NAME)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_patch_applies(mutant: Mutant) -> None:
    """To the code as it is now: when this fails, put the fault in anew and take the difference."""
    apply(mutant.patch, ROOT, check_only=True)


def test_a_patch_that_does_not_fit_is_told(tmp_path: Path) -> None:
    """By its name, and what to do."""
    (tmp_path / "worker" / "database").mkdir(parents=True)
    (tmp_path / "worker" / "database" / "engine.py").write_text("nothing of it\n")

    with pytest.raises(Unusable, match=r"deferred-begin\.patch does not apply"):
        apply(BY_NAME["deferred-begin"].patch, tmp_path)


def test_a_patch_changes_the_tree(tmp_path: Path) -> None:
    """Also where there is no repository."""
    shutil.copytree(ROOT / "worker", tmp_path / "worker")

    apply(BY_NAME["deferred-begin"].patch, tmp_path)

    assert 'else "BEGIN IMMEDIATE"' not in (tmp_path / "worker" / "database" / "engine.py").read_text()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_named_proof_is_a_test(mutant: Mutant) -> None:
    """In the file it is said to be in."""
    path, _, name = mutant.proof.partition("::")

    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_is_in_the_published_table_as_killed(mutant: Mutant) -> None:
    """With what it does and the test that kills it: a new one needs a run of `make prove`."""
    page = (ROOT / "docs" / "proof.md").read_text()

    assert f"| `{mutant.name}` | {mutant.fault} | `{mutant.proof.partition('::')[2]}` | killed |" in page


def test_a_mutant_is_killed_by_its_proof() -> None:
    """One of the quick ones, as `make prove` does it with all."""
    mutant = BY_NAME["any-key-speaks-for-any-merchant"]
    sqlite = f"{mutant.proof}[sqlite]"

    assert failures([sqlite], None) == []
    assert failures([sqlite], mutant.patch) == [sqlite.partition("::")[2]]


def test_a_proof_that_does_not_get_to_run_kills_nothing() -> None:
    """A name that is no test's is no verdict."""
    with pytest.raises(Unusable):
        failures(["tests/worker/test_inbox.py::test_that_is_not_there"], None)
