"""A call carried out: once for each idempotence key, and with the faults that rules want."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from sandbox import callers
from sandbox.bodies import Json
from sandbox.calls import Call, Reply
from sandbox.faults import NONE, Fault, Faults
from sandbox.idempotence import Entry, IdempotenceKeys
from sandbox.ledger import Ledger, number_of
from sandbox.payments import now
from sandbox.refusals import Refused
from sandbox.settings import Dials
from sandbox.wire import Answer

Decide = Callable[[Call], Reply]


class Processing:
    """``decide`` changes the ledger and says what it is then; or only says what it was at an instant."""

    def __init__(self, ledger: Ledger, keys: IdempotenceKeys, faults: Faults, dials: Dials, decide: Decide):
        self._ledger = ledger
        self._keys = keys
        self._faults = faults
        self._dials = dials
        self._decide = decide

    def answer(self, call: Call) -> Answer:
        fault = self._fault_of(call)
        try:
            usual = self._carried_out(call, fault)
        except Refused as refusal:
            usual = Answer.json(refusal.status, refusal.as_platform())
        return usual if fault is NONE else fault.shown(usual)

    def _fault_of(self, call: Call) -> Fault:
        if not self._faults:
            return NONE
        number = number_of(call.payment_id)
        return self._faults.of(call.name, number, f"{call.name}/{self._ledger.place_of(number)}", self._dials.now.seed)

    def _carried_out(self, call: Call, fault: Fault) -> Answer:
        """What would be answered if nothing went wrong with the answer itself.

        Raises:
            Refused: the idempotence key is in use, or is none.
        """
        if fault.kill == "before_effect":
            callers.kill(call.request.caller)
        key = call.idempotence_key
        answer = self._once(call, key, fault) if key else self._sooner_or_later(call, fault)
        if fault.kill == "after_effect":
            callers.kill(call.request.caller)
        return answer

    def _once(self, call: Call, key: str, fault: Fault) -> Answer:
        """The first request of a key is carried out, any other gets what that one got."""
        request = f"{call.request.method} {call.request.path}"
        with self._ledger.lock:
            earlier = self._keys.earlier(call.merchant_id, key, request)
            if earlier is not None:
                return earlier
            return self._sooner_or_later(call, fault, self._keys.begin(call.merchant_id, key, request))

    def _sooner_or_later(self, call: Call, fault: Fault, entry: Entry | None = None) -> Answer:
        if not fault.effect_after_seconds:
            return self._effect(call, fault, entry)

        def effect() -> None:
            self._effect(call, fault, entry)

        self._ledger.later(fault.effect_after_seconds, effect)
        return NO_OUTCOME

    def _effect(self, call: Call, fault: Fault, entry: Entry | None) -> Answer:
        """Do what is asked, if the fault lets it happen, and keep under the key what the fault says."""
        try:
            if fault.lag_seconds:
                call = replace(call, as_of=now() - timedelta(seconds=fault.lag_seconds))
            outcome = _answer(*self._decide(call)) if fault.effect else NO_OUTCOME
        except Refused as refusal:
            outcome = Answer.json(refusal.status, refusal.as_platform())
        if entry is not None:
            self._keep(entry, outcome, fault)
        return outcome

    def _keep(self, entry: Entry, outcome: Answer, fault: Fault) -> None:
        if fault.keeps == "nothing" or (fault.keeps == "outcome" and not fault.effect):
            self._keys.forget(entry)
            return
        entry.answer = outcome if fault.keeps == "outcome" else fault.content(outcome)
        entry.ready_at = time.time() + self._dials.now.latency_seconds


def _answer(status: int, content: Json | None) -> Answer:
    return Answer(status, b"") if content is None else Answer.json(status, content)


#: What there is to answer when nothing was done; the fault puts something in its place, or nothing is sent.
NO_OUTCOME = Answer.json(500, Refused(500, "UNKNOWN_SERVER_ERROR", "50001999", "nothing was done").as_platform())
