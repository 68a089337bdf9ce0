"""Faults put into payhook one at a time, each with the test that must notice: a mutant that lives is a missing test."""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PATCHES = Path(__file__).parent / "mutants"

#: What a proof needs of the tree; the copy comes before the installed original on the path.
COPIED = ("ingress", "worker", "sandbox", "migrations", "tests", "alembic.ini", "pyproject.toml", "README.md")

#: For all named proofs in turn.
LONGEST_SECONDS = 900


@dataclass(frozen=True)
class Mutant:
    """A patch of this name in ``mutants/``.

    Args:
        name: the patch, without its ending.
        fault: what payhook then does, as a sentence for docs/proof.md.
        proof: the test that must fail.
    """

    name: str
    fault: str
    proof: str

    @property
    def patch(self) -> Path:
        return PATCHES / f"{self.name}.patch"


MUTANTS = (
    Mutant(
        "acknowledged-before-the-commit",
        "answers 204 when the database did not say that the event is stored",
        "tests/ingress/test_webhooks.py::test_without_the_database_the_platform_is_asked_to_come_again",
    ),
    Mutant(
        "answered-while-it-is-stored",
        "answers 204 and stores the event on another thread meanwhile",
        "tests/ingress/test_webhooks.py::test_nothing_is_answered_before_the_commit",
    ),
    Mutant(
        "no-unique-body",
        "has no constraint that keeps a body once",
        "tests/worker/test_inbox.py::test_the_same_body_again_is_the_same_row",
    ),
    Mutant(
        "unique-by-event-id",
        "tells events apart by the envelope's id and not by their bytes",
        "tests/worker/test_inbox.py::test_the_same_event_id_with_another_body_is_another_row",
    ),
    Mutant(
        "body-unique-for-an-hour",
        "forgets after an hour which bodies it has had",
        "tests/worker/test_inbox.py::test_a_body_sent_again_after_a_year_is_the_same_row",
    ),
    Mutant(
        "any-key-speaks-for-any-merchant",
        "takes events of one merchant that were signed with the key of another",
        "tests/worker/test_inbox.py::test_an_event_signed_with_the_key_of_another_merchant_is_set_aside",
    ),
    Mutant(
        "unknown-key-is-a-200",
        "answers 200 to an unknown key, so that the platform does not send again after a rotation",
        "tests/ingress/test_webhooks.py::test_every_forgery_gets_the_same_answer_and_leaves_nothing",
    ),
    Mutant(
        "database-waited-for-too-long",
        "gives a frozen database five seconds more",
        "tests/ingress/test_webhooks.py::test_a_frozen_database_is_answered_for_in_time",
    ),
    Mutant(
        "deferred-begin",
        "begins writing transactions on SQLite with a plain BEGIN",
        "tests/worker/test_database.py::test_a_transaction_that_reads_before_it_writes_is_not_failed_by_another_writer",
    ),
    Mutant(
        "ringing-waits-for-the-broker",
        "waits a twentieth of a second for the broker to take a ring",
        "tests/worker/test_doorbell.py::test_a_dead_broker_is_never_waited_for",
    ),
    Mutant(
        "ring-contents-trusted",
        "believes whatever a message from the broker says",
        "tests/worker/test_tasks.py::test_a_forged_message_wakes_nothing",
    ),
    Mutant(
        "rings-trusted",
        "looks at any payment that it is rung for, whether or not there is work",
        "tests/worker/test_reconciliation.py::test_a_payment_due_with_every_hint_answered_is_not_looked_at",
    ),
    Mutant(
        "no-sweep",
        "does not look for rows whose rings were lost",
        "tests/worker/test_sweep.py::test_a_sweep_rings_for_what_is_due",
    ),
    Mutant(
        "no-poll",
        "does not look at payments that no webhook speaks of",
        "tests/worker/test_rescue.py::test_a_poll_that_is_due_is_a_hint",
    ),
    Mutant(
        "hints-skip-a-locked-row",
        "does not wait for a payment's row to count a hint (SKIP LOCKED)",
        "tests/worker/test_claims.py::test_a_claim_waits_for_a_row_that_another_transaction_holds",
    ),
    Mutant(
        "hints-of-a-held-payment-not-counted",
        "counts no hint that comes while the payment is being looked at",
        "tests/worker/test_interleavings.py::test_no_order_of_steps_loses_a_hint",
    ),
    Mutant(
        "all-open-events-marked-done",
        "marks all of a payment's events done, not exactly those that the look has noted",
        "tests/worker/test_reconciliation.py::test_an_event_with_a_lower_key_that_commits_during_a_look_is_not_done",
    ),
    Mutant(
        "claim-token-not-asked-for",
        "writes what it saw without asking whether the claim is still its own",
        "tests/worker/test_reconciliation.py::test_a_holder_whose_lease_ended_writes_nothing",
    ),
    Mutant(
        "claims-not-counted",
        "does not count claims when claiming, so a payment that kills its workers goes on doing so",
        "tests/worker/test_claims.py::test_a_payment_that_kills_its_workers_is_parked",
    ),
    Mutant(
        "claims-kept-over-a-restart",
        "leaves the claims of a killed `payhook up` to their leases",
        "tests/end_to_end/test_embedded.py::test_up_resumes_within_ten_seconds_of_its_restart",
    ),
    Mutant(
        "platform-asked-inside-the-transaction",
        "asks the platform while the transaction of the claim is open",
        "tests/worker/test_reconciliation.py::test_no_connection_is_held_while_the_platform_is_asked",
    ),
    Mutant(
        "last-writer-wins",
        "takes a snapshot that lacks a movement it has already linked",
        "tests/worker/test_reconciliation.py::test_a_look_that_lacks_a_movement_of_ours_is_kept_out",
    ),
    Mutant(
        "amounts-added-up",
        "adds captured amounts up look by look instead of computing them from the movements",
        "tests/worker/test_reconciliation.py::test_amounts_are_recomputed_from_movements",
    ),
    Mutant(
        "a-403-rejects-the-payment",
        "takes the platform's refusal of our credentials for a rejected payment",
        "tests/worker/test_reconciliation.py::test_refused_credentials_cost_a_back_off_and_no_event",
    ),
    Mutant(
        "a-time-out-is-a-refusal",
        "takes an answer that never came for a no",
        "tests/worker/gateways/test_errors.py::test_every_ending_has_a_name",
    ),
    Mutant(
        "redirects-followed",
        "follows a redirect of the platform's answer",
        "tests/worker/gateways/test_connection.py::test_a_redirect_is_not_followed",
    ),
    Mutant(
        "rows-worked-on-in-the-task",
        "works on rows inside the task, so that one that breaks fails the whole message",
        "tests/worker/test_tasks.py::test_a_rings_row_that_breaks_costs_no_other",
    ),
    Mutant(
        "one-row-at-a-time",
        "gives each process one thread for the platform, so that a payment that hangs holds up the others",
        "tests/end_to_end/test_poison.py::test_poison_delays_no_other",
    ),
    Mutant(
        "a-fresh-key-for-each-attempt",
        "asks again with another idempotence key",
        "tests/worker/test_sending.py::test_what_a_look_does_not_show_is_sent_again_with_the_same_key_and_bytes",
    ),
    Mutant(
        "no-key-horizon",
        "asks again with the same key after the platform has forgotten it",
        "tests/worker/test_settlement.py::test_what_is_known_tells_what_is_done_next",
    ),
    Mutant(
        "kept-errors-not-counted",
        "asks for ever with a key under which the platform keeps an error",
        "tests/worker/test_settlement.py::test_what_is_known_tells_what_is_done_next",
    ),
    Mutant(
        "a-no-after-doubt-is-believed",
        "takes a no for the end though an earlier request may have moved the money",
        "tests/worker/test_settlement.py::test_what_is_known_tells_what_is_done_next",
    ),
    Mutant(
        "tries-run-out-into-a-refusal",
        "calls refused what it has asked for five times in vain",
        "tests/worker/test_settlement.py::test_what_is_known_tells_what_is_done_next",
    ),
    Mutant(
        "an-older-look-counts",
        "believes a look that began before the last request left",
        "tests/worker/test_settlement.py::test_what_is_known_tells_what_is_done_next",
    ),
    Mutant(
        "old-promises-sent-blindly",
        "sends what was promised long ago without looking first, as after a restored backup",
        "tests/worker/test_sending.py::test_what_waited_long_is_looked_up_before_it_is_first_sent",
    ),
    Mutant(
        "attempt-written-after-the-answer",
        "writes down that it has sent something when the answer is there, and not before",
        "tests/worker/test_sending.py::test_the_attempt_is_on_record_before_anything_leaves",
    ),
    Mutant(
        "two-in-flight",
        "has no constraint that keeps a payment to one request at a time",
        "tests/worker/test_sending.py::test_the_database_itself_allows_one_in_flight",
    ),
    Mutant(
        "money-counted-before-the-lock",
        "counts what is left of a payment's money without its row lock",
        "tests/worker/operations/test_acceptance.py::test_a_promise_waits_for_whoever_holds_the_payment",
    ),
    Mutant(
        "a-lost-claim-writes",
        "writes what came of a request though another holds the operation by then",
        "tests/worker/test_sending.py::test_a_paused_process_completes_its_attempt_and_no_more",
    ),
    Mutant(
        "sends-not-counted",
        "does not count what it sends, so an operation that kills its workers goes on doing so",
        "tests/worker/test_sending.py::test_after_eight_deaths_a_person_is_asked",
    ),
    Mutant(
        "a-403-refuses-the-operation",
        "takes the platform's refusal of our credentials for its refusal of the operation",
        "tests/worker/test_sending.py::test_what_did_not_leave_is_planned_again",
    ),
    Mutant(
        "a-time-out-refuses-the-operation",
        "takes an answer that never came for a refusal of the operation",
        "tests/worker/test_sending.py::test_every_error_says_what_is_known_of_the_money",
    ),
    Mutant(
        "a-409-told-by-one-code",
        "knows one of the platform's three ways to say that a request still runs",
        "tests/worker/gateways/test_errors.py::test_every_ending_has_a_name",
    ),
    Mutant(
        "a-budget-for-each-process",
        "gives each process the merchant's whole budget of requests instead of a part of one that they share",
        "tests/worker/traffic/test_budget.py::test_threads_and_processes_together_keep_it",
    ),
    Mutant(
        "a-turn-given-up-is-taken",
        "takes an operation's turn although the operation does not wait for it, from all others of the merchant",
        "tests/worker/test_sending.py::test_an_operation_that_cannot_wait_for_its_turn_takes_none",
    ),
    Mutant(
        "one-payment-opens-the-circuit",
        "counts failed looks, not payments, so that one payment that always fails stops its whole merchant",
        "tests/worker/traffic/test_circuit.py::test_one_payment_that_always_fails_opens_none",
    ),
    Mutant(
        "everybody-tries",
        "lets everybody try at once when the platform may be asked again",
        "tests/worker/traffic/test_circuit.py::test_one_at_a_time_may_try",
    ),
    Mutant(
        "turns-paid-for-twice",
        "has a payment whose turn has come queue up for another one",
        "tests/worker/test_turns.py::test_a_payment_waits_for_its_turn_and_pays_for_it_once",
    ),
    Mutant(
        "polls-of-a-night-ring-first",
        "rings for polls of a merchant that is behind already, so that its events wait behind them",
        "tests/worker/test_rescue.py::test_polls_of_a_merchant_that_is_behind_stay_due",
    ),
)


class Unusable(Exception):
    """A mutant or a proof that says nothing: the patch does not apply, or the test did not get to run."""


def failures(proofs: list[str], patch: Path | None) -> list[str]:
    """Run proofs on a copy of the tree, with a patch applied; the names of the tests that failed.

    Raises:
        Unusable: it is not known whether they would fail.
    """
    with tempfile.TemporaryDirectory(prefix="payhook-mutant-") as folder:
        copy = Path(folder)
        _copy_tree(copy)
        if patch is not None:
            apply(patch, copy)
        report = copy / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *proofs]
        try:
            ran = subprocess.run(
                command, cwd=copy, env=_environment(copy), capture_output=True, text=True, timeout=LONGEST_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise Unusable(f"not over after {LONGEST_SECONDS} s; a proof fails, it does not hang") from error
        if ran.returncode not in (0, 1):
            raise Unusable(f"pytest ended with {ran.returncode}:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
        return _failed(ElementTree.parse(report), ran.stdout)


def apply(patch: Path, to: Path, *, check_only: bool = False) -> None:
    """Apply a patch to a tree, or only see whether it would.

    Raises:
        Unusable: it does not fit.
    """
    # Outside of any repository, or git would look for the files in the one around.
    command = ["git", "apply", *["--check"] * check_only, str(patch)]
    done = subprocess.run(command, cwd=to, env=os.environ | {"GIT_DIR": os.devnull}, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unusable(f"{patch.name} does not apply; make it anew for the code as it is now\n{done.stderr}")


def _copy_tree(to: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)


def _environment(copy: Path) -> dict[str, str]:
    environment = os.environ | {"PYTHONPATH": str(copy)}
    where = "import ingress, worker, sandbox; print(ingress.__file__, worker.__file__, sandbox.__file__)"
    told = subprocess.run(
        [sys.executable, "-c", where], cwd=copy, env=environment, capture_output=True, text=True, check=True
    ).stdout
    if any(not path.startswith(str(copy)) for path in told.split()):
        raise Unusable(f"the copy is not what would be tested: {told}")
    return environment


def _failed(report: "ElementTree.ElementTree[ElementTree.Element]", output: str) -> list[str]:
    cases = list(report.iter("testcase"))
    broken = [case.get("name", "") for case in cases if case.find("error") is not None]
    if broken or not any(case.find("skipped") is None for case in cases):
        raise Unusable(f"{', '.join(broken) or 'nothing'} ran before any assertion:\n{output[-2000:]}")
    return [case.get("name", "") for case in cases if case.find("failure") is not None]
