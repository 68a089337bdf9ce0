"""Whatever a call to the platform may raise, named for what the caller does next."""

import re
from typing import Any

from onlinepayments.sdk.api_exception import ApiException
from onlinepayments.sdk.communication.response_exception import ResponseException
from onlinepayments.sdk.declined_transaction_exception import DeclinedTransactionException
from onlinepayments.sdk.problem_details_exception import ProblemDetailsException

from worker.gateways.connection import AnswerLost, NeverLeft
from worker.gateways.gateway import (
    CredentialsRefused,
    GatewayError,
    InProgress,
    NotAllowed,
    NotSent,
    OutcomeUnknown,
    PaymentUnknown,
    Refused,
    SlowDown,
    TryAgain,
)

#: A request with the same idempotence key still runs. The platform changed the code between versions of its SDK, and
#: the SDK's own exception for it is raised for one of them only, and only when it came alone: never go by the class.
IN_PROGRESS = frozenset({"30001002", "1409", "DUPLICATE_REQUEST_IN_PROGRESS"})
#: The payment does not stand where this is possible: captured already, say, by a person in the platform's portal.
NOT_ALLOWED = frozenset({"50001127", "50001129", "1020", "ACTION_NOT_ALLOWED_ON_TRANSACTION"})
UNKNOWN_PAYMENT = frozenset({"50001130", "UNKNOWN_PAYMENT_ID"})

#: Answers that say nothing definite though they are in the four hundreds: a 404 of another resource, two time-outs.
INDEFINITE = frozenset({404, 408, 425})

_CODE = re.compile(r"[0-9]{1,8}|[A-Z][A-Z0-9_]{0,63}", re.ASCII)
_ERROR_ID = re.compile(r"(?![0-9]{12,19}\Z)[A-Za-z0-9._:-]{1,128}", re.ASCII)  # an id, and never a card number


class UnusableAnswer(Exception):
    """The platform answered, but not with what was asked for.

    Args:
        told: what is wrong with it, safe to log: names of fields, nothing of their content.
    """

    def __init__(self, told: str):
        super().__init__(told)
        self.told = told


def gateway_error(error: Exception, call: str, *, moves_money: bool) -> GatewayError:
    """Name an error of a call for what is to be done about it. To be raised outside the ``except`` that caught it:
    the SDK's exceptions carry whole response bodies, and would come along as its context.

    Args:
        error: anything the SDK, the connection or the reading of an answer raised. What is not known of it means
            that nothing is known of the call.
        call: the name of the call, for the message.
        moves_money: whether the call asked for a capture, refund or cancellation: what is then not known to have
            failed may have happened.

    Returns:
        `NotSent` when no byte left; `CredentialsRefused` for 401 and 403; `SlowDown` for 429; `PaymentUnknown`,
        `InProgress`, `NotAllowed` and `Refused` for what the platform itself says in its own JSON (a page of some
        proxy in between decides nothing); else `OutcomeUnknown` when money may have moved, `TryAgain` when none can
        have.
    """
    if isinstance(error, GatewayError):
        return error
    unclear: type[GatewayError] = OutcomeUnknown if moves_money else TryAgain
    if isinstance(error, ApiException):
        return _answered(error, call, unclear)
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, NeverLeft):
        return NotSent(f"{call}: never left, {cause.told}")
    if isinstance(cause, ResponseException):
        told = f"{call}: HTTP {cause.status_code}, not the platform's JSON"
        return _by_status(cause.status_code, unclear)(told, http_status=cause.status_code)
    if isinstance(cause, (AnswerLost, UnusableAnswer)):
        return unclear(f"{call}: {cause.told}")
    return unclear(f"{call}: {type(error).__name__}")


def _answered(error: Any, call: str, unclear: type[GatewayError]) -> GatewayError:
    """The platform's JSON answer, or one that is empty: then it tells no more than its status."""
    status = error.status_code
    codes = _codes(error)
    error_id = error.error_id if _matches(_ERROR_ID, error.error_id) else None
    itself = bool(error.errors or error.error_id) or isinstance(
        error, (DeclinedTransactionException, ProblemDetailsException)
    )
    kind = _by_status(status, unclear)
    if kind is unclear and itself:
        kind = _by_answer(status, frozenset(codes), unclear)
    told = f"{call}: HTTP {status} {type(error).__name__} {' '.join(codes)}".rstrip()
    return kind(told, http_status=status, error_id=error_id)


def _by_status(status: int, unclear: type[GatewayError]) -> type[GatewayError]:
    """What a status alone tells. Those who refuse us or our pace do so before anything is done, whoever they are."""
    if status in (401, 403):
        return CredentialsRefused
    return SlowDown if status == 429 else unclear


def _by_answer(status: int, codes: frozenset[str], unclear: type[GatewayError]) -> type[GatewayError]:
    if status == 404 and codes & UNKNOWN_PAYMENT:
        return PaymentUnknown
    if status == 409 and unclear is TryAgain:
        return TryAgain  # nothing a question could conflict with lasts
    if status == 409 and codes & IN_PROGRESS:
        return InProgress
    if status == 409 or (status == 400 and codes & NOT_ALLOWED):
        return NotAllowed
    return Refused if 400 <= status < 500 and status not in INDEFINITE else unclear


def _codes(error: Any) -> list[str]:
    """The codes and ids of all errors told, in order; anything else in their place is left out."""
    told = [value for one in error.errors[:10] for value in (one.error_code, one.code, one.id)]
    found = [str(value) for value in told if isinstance(value, (str, int)) and not isinstance(value, bool)]
    return [value for value in dict.fromkeys(found) if _CODE.fullmatch(value)]


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None
