"""A function of one's own: what it returns is checked, and what it does wrong never stops a look."""

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from tests.worker.policies.conftest import MakePayment
from worker.policies import MovementKind, PaymentFacts, PaymentState, Policy, Wanted, asked, open_policies

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "policies.md"

CANARY = "canary-4111111111111111"

CAPTURE = Wanted(MovementKind.CAPTURE)
CANCEL = Wanted(MovementKind.CANCEL)

WriteModule = Callable[[str], None]
PolicyOf = Callable[[Callable[[PaymentFacts], Any]], Policy]


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """Writes the module ``shop_policies``, which Python finds."""

    def write(source: str) -> None:
        (tmp_path / "shop_policies.py").write_text(source)

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    sys.modules.pop("shop_policies", None)


@pytest.fixture
def policy_of(write_module: WriteModule) -> PolicyOf:
    """The policy of a function, which is called ``decide`` in that module."""

    def open_one(function: Callable[[PaymentFacts], Any]) -> Policy:
        write_module("")
        vars(importlib.import_module("shop_policies"))["decide"] = function
        (policy,) = open_policies("shop_policies:decide")
        return policy

    return open_one


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (None, []),
        (CAPTURE, [CAPTURE]),
        ([], []),
        ([CAPTURE, CANCEL], [CAPTURE, CANCEL]),
        ((one for one in (CANCEL, CAPTURE)), [CANCEL, CAPTURE]),
        (Wanted(MovementKind.CAPTURE, 300, reason="deposit"), [Wanted(MovementKind.CAPTURE, 300, reason="deposit")]),
    ],
    ids=["none", "one", "an empty list", "a list", "a generator", "with everything"],
)
def test_it_wants_what_it_returns(policy_of: PolicyOf, payment: MakePayment, answer: Any, wanted: list[Wanted]) -> None:
    """One operation, several, or nothing; it is given the payment, and its path is its name."""
    given = []

    def decide(seen: PaymentFacts) -> Any:
        given.append(seen)
        return answer

    policy = policy_of(decide)

    assert list(policy.wants(payment())) == wanted
    assert given == [payment()]
    assert policy.name == "shop_policies:decide"


def test_it_is_left_to_the_looks(policy_of: PolicyOf, payment: MakePayment) -> None:
    """A function has no time of its own."""
    assert policy_of(lambda seen: CAPTURE).asks_at(payment()) is None


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (True, "it returned a bool in place of a Wanted, several, or None"),
        (CANARY, "it returned a str in place of a Wanted"),
        ({"kind": CANARY}, "it returned a str in place of a Wanted"),
        ([CAPTURE, None], "it returned a NoneType in place of a Wanted"),
        ([CAPTURE, Wanted(MovementKind.CAPTURE, 300)], "two operations of one kind"),
        (repeat(CAPTURE), "two operations of one kind"),
        (Wanted(CANARY), "cannot be done: its kind"),  # type: ignore[arg-type]
        (Wanted(MovementKind.CAPTURE, 0), "cannot be done: its amount"),
        (Wanted(MovementKind.CAPTURE, -1), "cannot be done: its amount"),
        (Wanted(MovementKind.CAPTURE, 2**63), "cannot be done: its amount"),
        (Wanted(MovementKind.CAPTURE, True), "cannot be done: its amount"),
        (Wanted(MovementKind.CAPTURE, 3.0), "cannot be done: its amount"),  # type: ignore[arg-type]
        (Wanted(MovementKind.CAPTURE, is_final="no"), "cannot be done: its is_final"),  # type: ignore[arg-type]
        (Wanted(MovementKind.REFUND, reason=f"{CANARY}\x00"), "cannot be done: its reason"),
        (Wanted(MovementKind.REFUND, reason=201 * "x"), "cannot be done: its reason"),
        (Wanted(MovementKind.REFUND, 0, reason=7), "cannot be done: its amount, reason"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_what_cannot_be_used_is_logged_and_wants_nothing(
    policy_of: PolicyOf, payment: MakePayment, capsys: pytest.CaptureFixture[str], answer: Any, told: str
) -> None:
    """Nothing of it is done, the good part neither; the log says what is wrong with it, and repeats none of it."""
    policy = policy_of(lambda seen: answer)

    wanted = list(policy.wants(payment()))

    logged = "".join(capsys.readouterr())
    assert wanted == []
    assert "policy.failed" in logged
    assert told in logged
    assert CANARY not in logged


@pytest.mark.parametrize("error", [ValueError, SystemExit, RecursionError])
def test_what_it_raises_is_logged_without_its_text(
    policy_of: PolicyOf, payment: MakePayment, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    """By its class and its place, with the payment and the policy; the next look asks it again."""
    asked_for = []

    def decide(seen: PaymentFacts) -> Any:
        asked_for.append(seen.payment_id)
        if len(asked_for) == 1:
            raise error(CANARY)
        return CAPTURE

    policy = policy_of(decide)

    first, logged, second = policy.wants(payment()), "".join(capsys.readouterr()), policy.wants(payment())

    assert (list(first), list(second)) == ([], [CAPTURE])
    assert all(word in logged for word in ("shop_policies:decide", "3254564310", error.__name__, "test_function.py:"))
    assert CANARY not in logged


def test_a_generator_that_breaks_wants_nothing(policy_of: PolicyOf, payment: MakePayment) -> None:
    """Neither what it gave before."""

    def decide(seen: PaymentFacts) -> Iterator[Wanted]:
        yield CAPTURE
        raise KeyError(CANARY)

    assert list(policy_of(decide).wants(payment())) == []


def test_the_others_are_asked_all_the_same(write_module: WriteModule, payment: MakePayment) -> None:
    """A broken function costs what it would have wanted, nothing else."""
    write_module("def broken(payment):\n    return 1 / 0\n")

    wanted, _ = asked(open_policies("shop_policies:broken,capture-when-authorised"), payment())

    assert wanted == [("capture-when-authorised", Wanted(MovementKind.CAPTURE, is_final=True))]


def test_a_module_that_breaks_stops_the_start(write_module: WriteModule) -> None:
    """Whatever it raises while it is imported; its text may quote anything."""
    write_module(f"raise RuntimeError('{CANARY}')")

    with pytest.raises(ValueError, match=r"^shop_policies:decide cannot be imported \(RuntimeError\)$"):
        open_policies("shop_policies:decide")


def documented() -> str:
    """The example of the documentation, as it stands there."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTATION.read_text(encoding="utf-8"), re.DOTALL)
    return str(example)


def test_the_documented_example_is_ten_lines() -> None:
    """To write a policy is to write one function."""
    assert len([line for line in documented().splitlines() if line.strip()]) <= 10


def test_the_documented_example_does_what_the_page_says(
    write_module: WriteModule, payment: MakePayment, capsys: pytest.CaptureFixture[str]
) -> None:
    """A deposit at once, once; nothing of small payments."""
    write_module(documented())
    (policy,) = open_policies("shop_policies:deposit")

    at_once = policy.wants(payment(amount_authorised=20_000, remainder=20_000))
    later = policy.wants(payment(amount_authorised=20_000, amount_captured=5_000, remainder=15_000))
    small = policy.wants(payment(amount_authorised=5_000, remainder=5_000))
    gone = policy.wants(payment(state=PaymentState.CANCELLED, amount_authorised=20_000, remainder=20_000))

    assert list(at_once) == [Wanted(MovementKind.CAPTURE, 5_000, reason="deposit")]
    assert [list(wanted) for wanted in (later, small, gone)] == [[], [], []]
    assert "policy.failed" not in "".join(capsys.readouterr())
