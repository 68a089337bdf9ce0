"""A function of one's own, named by its dotted path: given a payment, it returns what it wants."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import structlog

from worker.lifecycle import MovementKind
from worker.logs import place_of
from worker.policies.policy import PaymentFacts, Policy, Wanted

log = structlog.get_logger("payhook.policies")

#: Characters of a reason, which is one line for people to read.
LONGEST_REASON = 200


class FunctionPolicy(Policy):
    """Wants what somebody's function returns: a `Wanted`, several (one of a kind), or None for nothing.

    Whatever it raises or returns wrongly is logged, and wants nothing: the look goes on, and the next one asks again.

    Args:
        path: ``package.module:function``, imported now.

    Raises:
        ValueError: nothing that can be called is there.
    """

    def __init__(self, path: str):
        self.name = path
        self._function = _function_at(path)

    def wants(self, payment: PaymentFacts) -> Sequence[Wanted]:
        try:
            return _checked(self._function(payment))
        except _Unusable as problem:
            self._log(payment, told=str(problem))
        except (Exception, SystemExit) as error:  # its text may quote anything: the class and the place find it
            self._log(payment, error=type(error).__name__, where=place_of(error))
        return ()

    def _log(self, payment: PaymentFacts, **told: str) -> None:
        log.error(
            "policy.failed", policy=self.name, merchant_id=payment.merchant_id, payment_id=payment.payment_id, **told
        )


class _Unusable(Exception):
    """What a function returned is nothing that can be done; the message names types, never values."""


def _function_at(path: str) -> Callable[[PaymentFacts], object]:
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:  # it is somebody's module: anything may happen in it
        raise ValueError(f"{path} cannot be imported ({type(error).__name__})") from error
    if not callable(function):
        raise ValueError(f"{path} must be a function of a payment")
    return function  # type: ignore[no-any-return]


def _checked(answer: object) -> Sequence[Wanted]:
    if answer is None:
        return ()
    if isinstance(answer, Wanted):
        answer = (answer,)
    if not isinstance(answer, Iterable):
        raise _Unusable(f"it returned a {type(answer).__name__} in place of a Wanted, several, or None")
    # A generator need not end: no more of it is taken than could be used.
    wanted = tuple(_usable(one) for one in islice(answer, len(MovementKind) + 1))
    if len({one.kind for one in wanted}) < len(wanted):
        raise _Unusable("it wanted two operations of one kind, which would be one and the same")
    return wanted


def _usable(wanted: object) -> Wanted:
    if not isinstance(wanted, Wanted):
        raise _Unusable(f"it returned a {type(wanted).__name__} in place of a Wanted")
    amount, reason = wanted.amount, wanted.reason
    fits = {
        "kind": isinstance(wanted.kind, MovementKind),
        "amount": amount is None or (type(amount) is int and 0 < amount < 2**63),
        "is_final": type(wanted.is_final) is bool,
        "reason": reason is None
        or (isinstance(reason, str) and reason.isprintable() and len(reason) <= LONGEST_REASON),
    }
    if not all(fits.values()):
        wrong = ", ".join(name for name, does in fits.items() if not does)
        raise _Unusable(f"it returned a Wanted that cannot be done: its {wrong}")
    return wanted
