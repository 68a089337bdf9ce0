"""A proof is a test that comes in two sizes and writes down what it has measured."""

import json
from pathlib import Path
from typing import TypeVar

import pytest

from tests.proof.history import History

SEED = 20261123

Size = TypeVar("Size")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that `make prove` gives."""
    group = parser.getgroup("proofs")
    group.addoption("--proof", choices=("small", "full"), default="small", help="the size that proofs are run in")
    group.addoption("--figures", type=Path, help="a file that figures are added to, as JSON lines")
    group.addoption("--seed", type=int, default=SEED, help="what chance is drawn from")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A proof runs alone; what proves nothing when it is made small is run in full or not at all."""
    for item in items:
        if any(mark.kwargs.get("alone", True) for mark in item.iter_markers("proof")):
            item.add_marker(pytest.mark.alone)
    if config.getoption("--proof") == "full":
        return
    left_out = [
        item for item in items if any(not mark.kwargs.get("small", True) for mark in item.iter_markers("proof"))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class Proof:
    """The size of one proof, and what it has to say.

    Args:
        name: the test.
        promises: which of the promises of docs/design.md §7 it measures, as ``G1``.
        full: whether it is run in full.
        seed: what chance is drawn from.
        history: what the clients did.
        figures: where figures are added.
    """

    def __init__(
        self, name: str, promises: tuple[str, ...], *, full: bool, seed: int, history: History, figures: Path | None
    ):
        self.name, self.promises, self.full, self.seed, self.history = name, promises, full, seed, history
        self._figures = figures

    def size(self, small: Size, full: Size) -> Size:
        """How much of something."""
        return full if self.full else small

    def figure(self, what: str, measured: object, promised: object = None) -> None:
        """Write down what was measured, before it is judged: a figure that breaks its promise is worth reading too."""
        line = {
            "proof": self.name,
            "promises": self.promises,
            "what": what,
            "measured": str(measured),
            "promised": None if promised is None else str(promised),
        }
        print(
            f"{'/'.join(self.promises)} {what}: {measured}" + ("" if promised is None else f" (promised: {promised})")
        )
        if self._figures is not None:
            with self._figures.open("a") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def injected(self, fault: str, count: int, at_least: int) -> None:
        """Write down how often a fault was there; too seldom, and the run has proved nothing."""
        self.figure(f"injected: {fault}", count, f"≥ {at_least}")
        assert count >= at_least, f"{fault}: {count} of at least {at_least}; this run has proved nothing"


@pytest.fixture
def proof(request: pytest.FixtureRequest, tmp_path: Path) -> Proof:
    """The proof that this test is, in the size asked for."""
    mark = request.node.get_closest_marker("proof")
    assert mark is not None, "a proof says with @pytest.mark.proof which promises it measures"
    option = request.config.getoption
    return Proof(
        request.node.name,
        mark.args,
        full=option("--proof") == "full",
        seed=option("--seed"),
        history=History(tmp_path / "history.jsonl"),
        figures=option("--figures"),
    )
