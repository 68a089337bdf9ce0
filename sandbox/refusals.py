"""What the platform says no with."""

import uuid

# The platform still sends the four digits it has replaced, where we know them.
OLD_CODES = {"ACCESS_TO_MERCHANT_NOT_ALLOWED": "9007", "ACTION_NOT_ALLOWED_ON_TRANSACTION": "1020"}


class Refused(Exception):
    """A call that is answered with an error, or with several, and changes nothing."""

    def __init__(self, status: int, error_id: str, error_code: str, message: str, property_name: str | None = None):
        super().__init__(message)
        self.status = status
        self.error_id = error_id
        self.error_code = error_code
        self.message = message
        self.property_name = property_name
        self.others: list[Refused] = []

    def as_platform(self) -> dict[str, object]:
        """The platform's error body."""
        return error_body([self._as_error(), *(other._as_error() for other in self.others)])

    def _as_error(self) -> dict[str, object]:
        error: dict[str, object] = {
            "errorCode": self.error_code,
            "category": "DIRECT_PLATFORM_ERROR",
            "httpStatusCode": self.status,
            "id": self.error_id,
            # The platform repeats the id where one would expect a sentence; the sentence is worth more to a reader.
            "message": self.message,
            "retriable": False,
        }
        if self.property_name is not None:
            error["propertyName"] = self.property_name
        if self.error_id in OLD_CODES:
            error["code"] = OLD_CODES[self.error_id]
        return error


def error_body(errors: list[dict[str, object]], **result: object) -> dict[str, object]:
    return {"errorId": str(uuid.uuid4()), "errors": errors, **result}


def all_of(problems: list[Refused]) -> Refused:
    """One refusal that tells everything that is wrong."""
    first, *others = problems
    first.others = others
    return first


def wrong_type(property_name: str, expected: str) -> Refused:
    return Refused(400, "SCHEMA_VALIDATION_FAILED", "50001111", f"{property_name}: {expected}", property_name)


def unknown(what: str, resource_id: str) -> Refused:
    """Of anything but payments: no ``what`` has this id."""
    error_id = f"UNKNOWN_{what.upper().replace(' ', '_')}_ID"
    return Refused(404, error_id, "50001130", f"no {what} {resource_id}")


def invalid_value(property_name: str, expected: str) -> Refused:
    return Refused(400, "INVALID_VALUE", "50001111", f"{property_name}: {expected}", property_name)


def unknown_payment(payment_id: str) -> Refused:
    return Refused(404, "UNKNOWN_PAYMENT_ID", "50001130", f"no payment {payment_id}", "paymentId")


def not_allowed(kind: str, wanted: int, room: int) -> Refused:
    code = "50001129" if kind == "refund" else "50001127"
    message = f"a {kind} of {wanted} is not possible: at most {room} is"
    return Refused(400, "ACTION_NOT_ALLOWED_ON_TRANSACTION", code, message)
