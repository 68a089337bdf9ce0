"""What was said to the platform and what it said, for ``payhook.platform``, with the personal parts masked."""

import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress

from onlinepayments.sdk.log.body_obfuscator import BodyObfuscator
from onlinepayments.sdk.log.communicator_logger import CommunicatorLogger
from onlinepayments.sdk.log.header_obfuscator import HeaderObfuscator
from onlinepayments.sdk.log.obfuscation_rule import obfuscate_with_fixed_length
from onlinepayments.sdk.log.request_log_message import RequestLogMessage
from onlinepayments.sdk.log.response_log_message import ResponseLogMessage

_MASK = obfuscate_with_fixed_length(8)

#: What the SDK leaves readable in bodies: tokens, addresses, free text of the merchant, traces of the cardholder.
_PROPERTIES = (
    "accountHolderName", "acsTransactionId", "authorisationCode", "bankAccountIban", "bankAccountNumber", "bic",
    "buyerId", "cavv", "city", "clientSessionId", "companyName", "crmToken", "customerId", "deviceFingerprint",
    "dsTransactionId", "email", "fiscalNumber", "gender", "initialSchemeTransactionId", "ipAddress",
    "mandateReference", "merchantCustomerId", "merchantParameters", "name", "payerId", "paymentAccountReference",
    "reason", "schemeReferenceData", "schemeTransactionId", "sessionData", "sessionToken", "surname", "title",
    "token", "tokenNumber", "userAgent", "xid",
)  # fmt: skip

#: What it leaves readable in headers. The first two it means to mask, but it looks for them in lower case only.
_HEADERS = ("X-GCS-Authentication-Token", "X-GCS-CallerPassword", "X-GCS-Signature", "Cookie", "Set-Cookie")

BODY_OBFUSCATOR = BodyObfuscator(dict.fromkeys(_PROPERTIES, _MASK))
HEADER_OBFUSCATOR = HeaderObfuscator(dict.fromkeys(_HEADERS, _MASK))


class CallLog:
    """Writes calls to an SDK logger; made only when there is something to write to, so that silence costs nothing."""

    def __init__(self, logger: CommunicatorLogger, bodies: BodyObfuscator, headers: HeaderObfuscator):
        self._logger = logger
        self._bodies = bodies
        self._headers = headers

    def request(self, method: str, target: str, headers: Mapping[str, str], body: str | bytes | None) -> str:
        """Log what is about to leave; returns the id under which its answer is logged."""
        request_id = str(uuid.uuid4())
        with suppress(Exception):  # a log that fails must not look like a call that failed
            message = RequestLogMessage(request_id, method, target, self._bodies, self._headers)
            _fill(message, headers.items(), body.decode("utf-8", "replace") if isinstance(body, bytes) else body)
            self._logger.log_request(message)
        return request_id

    def response(
        self, request_id: str, status: int, headers: Iterable[tuple[str, str]], body: bytes, seconds: float
    ) -> None:
        """Log an answer. A body that is not JSON is only measured: the masks know names of JSON properties alone."""
        headers = list(headers)
        content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
        is_json = "json" in content_type.lower()
        text = body.decode("utf-8", "replace") if is_json else f"<{len(body)} bytes that are not JSON>"
        with suppress(Exception):  # as above; here money may have moved
            message = ResponseLogMessage(request_id, status, int(seconds * 1000), self._bodies, self._headers)
            _fill(message, headers, text)
            self._logger.log_response(message)

    def failure(self, request_id: str, told: str) -> None:
        """Log that no answer came, in the words we keep; the SDK's own exceptions may quote bodies."""
        with suppress(Exception):
            self._logger.log(f"No answer (requestId='{request_id}'): {told}")


def _fill(message: RequestLogMessage, headers: Iterable[tuple[str, str]], body: str | None) -> None:
    content_type = None
    for name, value in headers:
        message.add_header(name, value)
        if name.lower() == "content-type":
            content_type = value
    if body:
        message.set_body(body, content_type if content_type and "json" in content_type else "text/plain")
