"""The decision core with one of its rules taken out, and the smallest model that tells the difference."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from tests.worker.settlement_model import (
    FORGOTTEN_KEY,
    HOUR,
    KEPT_ERROR,
    KEPT_ERROR_LATE,
    LOST_AFTER,
    NOT_SENT,
    OK,
    REFUSED,
    RUNNING,
    Crash,
    Model,
)
from worker import settlement

SOURCE = Path(settlement.__file__).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Rule:
    """A rule, and what to replace in the source to have the core do without it.

    Args:
        name: the rule.
        source: what says so.
        without: what stands there instead.
        smallest: the smallest model that was found in which the core fails without it; None: it rests on reasoning.
        reason: then, what it is for; else None.
    """

    name: str
    source: str
    without: str
    smallest: Model | None = None
    reason: str | None = None

    @cache  # noqa: B019 - there are some twenty of them, and they live as long as the process
    def taken_out(self) -> ModuleType:
        """The decision core without this rule, as a module of its own."""
        assert SOURCE.count(self.source) == 1, f"{self.name}: the source has changed"
        module = ModuleType(f"settlement_without_{abs(hash(self.name))}")
        sys.modules[module.__name__] = module  # where dataclasses look up the names in annotations
        exec(compile(SOURCE.replace(self.source, self.without), module.__name__, "exec"), module.__dict__)
        return module


RULES = (
    Rule(
        "in doubt, the same key again",
        "    if _protected(evidence, now, pace):\n        return Send(now)\n",
        "    if _protected(evidence, now, pace):\n        return Renew('')\n",
        smallest=Model(faults=(RUNNING,)),
    ),
    Rule(
        "in doubt, a look before it is sent again",
        "        return Look(_paused(evidence, pace))\n    if _protected(",
        "        return Send(now) if _protected(evidence, now, pace) else Look(now)\n    if _protected(",
        smallest=Model(faults=(FORGOTTEN_KEY,)),
    ),
    Rule(
        "the look begins after the last attempt",
        "    if not evidence.looked_since(evidence.attempts[-1].started_at):\n",
        "    if not evidence.looked_at:\n",
        smallest=Model(faults=(RUNNING,)),
    ),
    Rule(
        "a key is not trusted after its time",
        "at < honoured_until and replays",
        "replays",
        smallest=Model(faults=(LOST_AFTER,), gaps=(25 * HOUR,), echoes=False),
    ),
    Rule(
        "a key that replays an error is spent",
        "at < honoured_until and replays < REPLAYS_THAT_SPEND_A_KEY",
        "at < honoured_until",
        reason="without it a kept error takes until the end of the key's time: an hour becomes a day",
    ),
    Rule(
        "two looks to give a key up",
        "NEGATIVE_LOOKS = 2",
        "NEGATIVE_LOOKS = 1",
        smallest=Model(faults=(KEPT_ERROR_LATE,)),
    ),
    Rule(
        "a settling time between the two",
        "    return evidence.looked_at + timedelta(seconds=pace.settling_seconds)\n",
        "    return evidence.looked_at\n",
        smallest=Model(faults=(KEPT_ERROR_LATE,)),
    ),
    Rule(
        "they count once the key is spent",
        " and not _protected(evidence, at, pace)",
        "",
        smallest=Model(faults=(KEPT_ERROR,)),
    ),
    Rule(
        "refused after doubt: looked up",
        "if last.answer is Answer.REFUSED and not doubts:",
        "if last.answer is Answer.REFUSED:",
        smallest=Model(depth=2, faults=(FORGOTTEN_KEY, REFUSED), room=1, echoes=False),
    ),
    Rule(
        "not allowed after doubt: looked up",
        "if last.answer is Answer.REFUSED and not doubts:",
        "if last.answer is Answer.NOT_ALLOWED or not doubts:",
        smallest=Model(faults=(RUNNING,), busy=True),
    ),
    Rule(
        "not allowed without doubt: looked up",
        "if last.answer is Answer.REFUSED and not doubts:",
        "if not doubts:",
        smallest=Model(faults=(FORGOTTEN_KEY,), crashes=(Crash.RESTORED,), room=1),
    ),
    Rule(
        "not allowed after doubt and unexplained: a settling time",
        "unexplained = last.answer is Answer.NOT_ALLOWED and evidence.covered",
        "unexplained = False",
        smallest=Model(faults=(RUNNING,), busy=True),
    ),
    Rule(
        "not allowed after doubt, explained by the lists: believed",
        "unexplained = last.answer is Answer.NOT_ALLOWED and evidence.covered",
        "unexplained = last.answer is Answer.NOT_ALLOWED",
        reason="what took the room is listed, so ours did not move; without it the payment waits for an hour",
    ),
    Rule(
        "the doubt of an older key counts",
        "for attempt in evidence.sent if attempt.ambiguous",
        "for attempt in evidence.sent_with_this_key if attempt.ambiguous",
        reason="a key is given up only when looks have shown that it did nothing; this costs one more look",
    ),
    Rule(
        "an attempt without an answer may have been sent",
        "if attempt.answer is not Answer.NOT_SENT)",
        "if attempt.answer not in (Answer.NOT_SENT, None))",
        smallest=Model(faults=(RUNNING,), crashes=(Crash.BEFORE_WRITE,), busy=True),
    ),
    Rule(
        "not leaving makes doubt no clearer",
        "    if not evidence.sent_with_this_key:\n",
        "    if not evidence.sent_with_this_key or evidence.attempts[-1].answer is Answer.NOT_SENT:\n",
        smallest=Model(depth=2, faults=(LOST_AFTER, NOT_SENT), room=1, echoes=False),
    ),
    Rule(
        "a stale first send is looked up",
        "        if not evidence.looked_since(now - timedelta(seconds=pace.stale_seconds)):\n",
        "        if False:\n",
        smallest=Model(faults=(OK,), crashes=(Crash.RESTORED,), gaps=(25 * HOUR,)),
    ),
    Rule(
        "a stale first send with a candidate: a person",
        "            return Look(now)\n        if evidence.candidates:\n",
        "            return Look(now)\n        if False:\n",
        smallest=Model(faults=(OK,), crashes=(Crash.RESTORED,), gaps=(25 * HOUR,), echoes=False),
    ),
    Rule(
        "a refusal after doubt with a candidate: a person",
        "            return Look(believed)\n        if evidence.candidates:\n",
        "            return Look(believed)\n        if False:\n",
        smallest=Model(faults=(RUNNING,), busy=True, echoes=False),
    ),
    Rule(
        "a spent key with a candidate: a person",
        "    if evidence.candidates:\n        return Review(_question(evidence))\n    if not evidence.covered:\n",
        "    if not evidence.covered:\n",
        smallest=Model(faults=(LOST_AFTER,), gaps=(25 * HOUR,), room=1, echoes=False),
    ),
    Rule(
        "no room: not sent",
        '    if not evidence.covered:\n        return Settle(OperationState.REFUSED, "the payment',
        '    if False:\n        return Settle(OperationState.REFUSED, "the payment',
        reason="the platform refuses what there is no room for; this spares it the request",
    ),
    Rule(
        "a spent key and no room: refused",
        '    if not evidence.covered:\n        return Settle(OperationState.REFUSED, "it was',
        '    if False:\n        return Settle(OperationState.REFUSED, "it was',
        reason="the platform refuses what there is no room for; this spares a person the question",
    ),
    Rule(
        "a spent key of a refund or cancellation: a person",
        "    if evidence.kind is MovementKind.CAPTURE:\n",
        "    if True:\n",
        reason="only where effects come later than the settling time, which is not promised, is a refund made twice "
        "without it",
    ),
)
