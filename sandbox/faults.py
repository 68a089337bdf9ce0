"""What goes wrong with calls of the API, by rule: which calls, what the platform does, what the caller gets."""

import threading
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sandbox.callers import Moment
from sandbox.refusals import Refused
from sandbox.wire import Answer, Transport

Json = dict[str, Any]

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Fault(BaseModel):
    """What a rule asks for. What is not set is as without it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # Which calls.
    call: str = "*"  # the name it is counted under
    payment_id: str = ""  # the ten digits
    skip: Annotated[int, Field(ge=0)] = 0  # the first so many that fit are left alone
    times: Annotated[int, Field(ge=1)] | None = None  # at most so many
    share: Annotated[float, Field(ge=0, le=1)] = 1.0  # of those that fit, drawn from the seed

    # What the platform does.
    effect: bool = True
    effect_after_seconds: Seconds = 0.0  # until then the idempotence key is in progress
    keeps: Literal["outcome", "answer", "nothing"] = "outcome"  # under the idempotence key, for the same key again
    lag_seconds: Seconds = 0.0  # a GET tells how things were so long ago

    # What the caller gets instead of the usual answer.
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: str | None = None
    content_type: str | None = None
    headers: dict[str, str] = {}
    transport: Transport = "whole"
    seconds: Seconds = 3600.0  # how long to hang or to refuse connections; between two bytes of a drip
    at_byte: Annotated[int, Field(ge=0)] = 0  # of the answer, its head included
    kill: Moment | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Fault":
        if self.effect_after_seconds and not self.effect:
            raise ValueError("effect_after_seconds needs effect: true")
        if self.effect_after_seconds and self.status is None and self.transport not in ("hang", "reset", "refuse"):
            raise ValueError("effect_after_seconds needs what is answered before it: status, or hang, reset, refuse")
        return self

    def shown(self, usual: Answer) -> Answer:
        """The answer as the caller gets it."""
        return replace(
            self.content(usual),
            transport=self.transport,
            seconds=self.seconds,
            at_byte=self.at_byte,
            kills=self.kill == "mid_answer",
        )

    def content(self, answer: Answer) -> Answer:
        """The answer with what the rule puts in its place, however it is sent."""
        if self.status is not None:
            answer = replace(answer, status=self.status)
            if self.status >= 400:
                answer = replace(answer, body=_error_body(self.status))
        if self.body is not None:
            answer = replace(answer, body=self.body.encode())
        if self.content_type is not None:
            answer = replace(answer, content_type=self.content_type)
        return replace(answer, headers={**answer.headers, **self.headers})


def _error_body(status: int) -> bytes:
    error = Refused(status, ERROR_IDS.get(status, "UNKNOWN_SERVER_ERROR"), "50001999", "a fault was asked for")
    return Answer.json(status, error.as_platform()).body


ERROR_IDS = {
    402: "PAYMENT_REFUSED",
    403: "ACCESS_TO_MERCHANT_NOT_ALLOWED",
    404: "UNKNOWN_PAYMENT_ID",
    409: "DUPLICATE_REQUEST_IN_PROGRESS",
    429: "TOO_MANY_REQUESTS",
}

NONE = Fault()

# A rule may start from one of these: {"like": "hang", "times": 1}.
NAMED: dict[str, Json] = {
    "refused": {"effect": False, "transport": "refuse", "seconds": 1.0},
    "hang": {"transport": "hang"},
    "hang_before_effect": {"transport": "hang", "effect": False},
    "reset": {"transport": "reset"},
    "reset_before_effect": {"transport": "reset", "effect": False},
    "truncated": {"transport": "truncate", "at_byte": 200},
    "drip": {"transport": "drip", "seconds": 1.0},
    "error": {"status": 500, "effect": False, "keeps": "nothing"},
    "error_stored": {"status": 500, "effect": False, "keeps": "answer"},
    "error_with_effect": {"status": 500, "keeps": "outcome"},
    "error_with_effect_forgotten": {"status": 500, "keeps": "nothing"},
    "error_with_effect_stored": {"status": 500, "keeps": "answer"},
    "gateway_timeout": {"status": 504, "content_type": "text/html", "body": "<html>504 Gateway Time-out</html>"},
    "late_effect": {"status": 504, "effect_after_seconds": 2.0},
    "too_many_requests": {"status": 429, "effect": False, "keeps": "nothing", "headers": {"Retry-After": "1"}},
    "payment_required": {"status": 402, "effect": False, "keeps": "answer"},
    "in_progress": {"status": 409, "effect": False, "keeps": "nothing"},
    "redirect": {"status": 302, "effect": False, "keeps": "nothing", "body": "", "headers": {"Location": "/elsewhere"}},
    "html": {"status": 200, "content_type": "text/html", "body": "<html><body>OK</body></html>"},
    "empty": {"status": 200, "body": ""},
    "empty_object": {"status": 200, "body": "{}"},
    "malformed_timestamp": {"headers": {"X-GCS-Idempotence-Request-Timestamp": "yesterday"}},
    "list_lag": {"call": "get_captures", "lag_seconds": 5.0},
    "kill_before_effect": {"kill": "before_effect"},
    "kill_after_effect": {"kill": "after_effect"},
    "kill_mid_answer": {"kill": "mid_answer"},
}


@dataclass(slots=True)
class Rule:
    id: int
    fault: Fault
    matched: int = 0
    applied: int = 0

    def as_json(self) -> Json:
        """Without the parts that are as usual."""
        fault = self.fault.model_dump(exclude_defaults=True)
        return {"id": self.id, "fault": fault, "matched": self.matched, "applied": self.applied}


class Faults:
    """The rules in force. The first that fits a call and is drawn decides it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._ids = count(1)
        self._met: Counter[tuple[int, str]] = Counter()

    def __bool__(self) -> bool:
        return bool(self._rules)

    def add(self, given: Json) -> Rule:
        """Check a rule and put it in force after those there are."""
        fault = fault_from(given)
        with self._lock:
            rule = Rule(next(self._ids), fault)
            self._rules.append(rule)
            return rule

    def remove_all(self) -> None:
        with self._lock:
            self._rules = []
            self._met.clear()

    def report(self) -> list[Json]:
        """The rules, how many calls each one fitted, and how many it was applied to."""
        with self._lock:
            return [rule.as_json() for rule in self._rules]

    def saved(self) -> list[Rule]:
        with self._lock:
            return [replace(rule) for rule in self._rules]

    def restore(self, rules: list[Rule]) -> None:
        with self._lock:
            self._rules = rules
            self._ids = count(1 + max((rule.id for rule in rules), default=0))
            self._met.clear()

    def of(self, call: str, number: str, subject: str, seed: int) -> Fault:
        """What shall happen to this call.

        Args:
            call: the name it is counted under.
            number: the ten digits of its payment, or nothing.
            subject: what the draw is made for; the same subjects in the same order suffer the same.
        """
        with self._lock:
            for rule in self._rules:
                if self._applies(rule, call, number, subject, seed):
                    rule.applied += 1
                    return rule.fault
        return NONE

    def _applies(self, rule: Rule, call: str, number: str, subject: str, seed: int) -> bool:
        fault = rule.fault
        if fault.call not in ("*", call) or fault.payment_id not in ("", number):
            return False
        if fault.times is not None and rule.applied >= fault.times:
            return False
        rule.matched += 1
        self._met[rule.id, subject] += 1
        if rule.matched <= fault.skip:
            return False
        return Random(f"{seed}/{rule.id}/{subject}/{self._met[rule.id, subject]}").random() < fault.share


def fault_from(given: Json) -> Fault:
    """The rule that is asked for, by a name of ``NAMED``, by its parts, or both.

    Raises:
        Refused: there is no such name or part, or its value cannot be.
    """
    parts = dict(given)
    like = parts.pop("like", None)
    if like is not None:
        if like not in NAMED:
            raise Refused(400, "INVALID_VALUE", "50001111", f"like: no fault {like!r}; there are {', '.join(NAMED)}")
        parts = NAMED[like] | parts
    try:
        return Fault.model_validate(parts)
    except ValidationError as error:
        raise refused_for(error) from None


def refused_for(error: ValidationError) -> Refused:
    """A refusal that says what is wrong and where."""
    what = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the body'}: {e['msg']}" for e in error.errors())
    return Refused(400, "INVALID_VALUE", "50001111", what)
