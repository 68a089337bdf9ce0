"""Every schedule of faults, crashes and gaps: money moves once at most, the record is true, and everything ends."""

import time
from dataclasses import replace

import pytest

from tests.proof.fixtures import Proof
from tests.worker.settlement_model import HOUR, KEPT_ERROR, STUCK, Found, Model, explore
from tests.worker.settlement_promise import ALONE, ASSUMPTIONS, PROMISED, Assumption, Promised
from tests.worker.settlement_report import PAGE, assumptions, rules
from tests.worker.settlement_rules import RULES, Rule
from worker.lifecycle import MovementKind


@pytest.mark.timeout(900)
@pytest.mark.proof("G2", "G3", "G4", alone=False)  # it measures no time
@pytest.mark.parametrize("promised", PROMISED, ids=[promised.name for promised in PROMISED])
def test_no_schedule_of_faults_moves_money_twice_or_leaves_a_false_record(promised: Promised, proof: Proof) -> None:
    """Faults, crash points and gaps, after which nothing goes wrong any more: none doubles, lies, or never ends."""
    model = promised.sized(full=proof.full)
    began = time.process_time()

    found = explore(model)

    proof.figure(
        f"schedules to depth {model.depth}",
        f"{found.schedules}, which come to {found.worlds} ends, in {time.process_time() - began:.1f} s of CPU",
    )
    proof.figure("double effects", found.doubles, 0)
    proof.figure("untrue records", found.untrue, 0)
    proof.figure("that never end", found.endless, 0)
    assert found.schedules == model.schedules
    assert (found.doubles, found.untrue, found.endless) == (0, 0, 0), found.examples[0]


@pytest.mark.parametrize("assumption", ASSUMPTIONS, ids=[assumption.sentence for assumption in ASSUMPTIONS])
def test_the_promise_rests_on_each_assumption(assumption: Assumption) -> None:
    """Where the platform is not so, schedules go wrong: the model is able to see it."""
    assert assumption.found.wrong > 0


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_each_rule_is_what_keeps_its_model_right(rule: Rule) -> None:
    """With the rule nothing goes wrong there, without it something does; or it says what it rests on."""
    without = rule.taken_out()

    if rule.smallest is None:
        assert rule.reason
        assert explore(replace(ALONE, depth=1), without).wrong == 0
    else:
        assert explore(rule.smallest).wrong == 0
        assert explore(rule.smallest, without).wrong > 0


def without(name: str, model: Model) -> Found:
    """What comes of a model without a rule."""
    return explore(model, next(rule for rule in RULES if rule.name == name).taken_out())


def test_a_capture_alone_never_needs_a_person() -> None:
    """Where the platform echoes our references, looks and keys tell all there is to know."""
    assert explore(replace(ALONE, depth=2)).reviews == 0
    assert explore(replace(ALONE, depth=2, kind=MovementKind.REFUND)).reviews > 0


def test_a_refund_is_not_made_twice_even_where_effects_come_too_late() -> None:
    """A person is asked instead of taking another key: what is not promised holds all the same."""
    late = replace(ASSUMPTIONS[0].without, kind=MovementKind.REFUND)

    assert explore(late).doubles == 0
    assert without("a spent key of a refund or cancellation: a person", late).doubles > 0


def test_a_kept_error_costs_an_hour_and_not_a_day() -> None:
    """A key that has replayed its error three times will not say anything else."""
    kept = Model(faults=(KEPT_ERROR,))

    assert explore(kept).longest < 1.1 * HOUR
    assert without("a key that replays an error is spent", kept).longest > 22 * HOUR


def test_a_request_that_hangs_for_days_ends_when_its_key_is_spent() -> None:
    """Whatever the platform does, an end comes a settling time after the key's."""
    assert explore(Model(faults=(STUCK,))).longest < 24.5 * HOUR


def test_the_page_tells_what_the_models_tell() -> None:
    """The tables of rules and assumptions are those of this very code."""
    page = PAGE.read_text(encoding="utf-8")

    assert rules() in page
    assert assumptions() in page
    assert [promised.name for promised in PROMISED if f"| {promised.name} |" not in page] == []
