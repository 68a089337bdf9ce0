"""Worldline Direct, asked through its SDK: one client a merchant, on a connection of our own."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from configparser import NoOptionError, NoSectionError
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog
from onlinepayments.sdk.authentication.authorization_type import AuthorizationType
from onlinepayments.sdk.call_context import CallContext
from onlinepayments.sdk.communicator_configuration import CommunicatorConfiguration
from onlinepayments.sdk.domain.validate_credentials_request import ValidateCredentialsRequest
from onlinepayments.sdk.factory import Factory
from onlinepayments.sdk.log.python_communicator_logger import PythonCommunicatorLogger

from worker import metrics, tracing
from worker.gateways import orders
from worker.gateways.answers import (
    PLATFORM_ID,
    cancellations_of,
    captures_of,
    ordered_movement,
    payment_view,
    refunds_of,
    with_movements,
)
from worker.gateways.connection import PlatformConnection
from worker.gateways.deadlines import deadline
from worker.gateways.errors import UnusableAnswer, gateway_error
from worker.gateways.gateway import (
    Contact,
    CredentialsRefused,
    Gateway,
    GatewayError,
    InProgress,
    Movement,
    Order,
    PaymentUnknown,
    PaymentView,
    Receipt,
    Refused,
    TryAgain,
)
from worker.lifecycle import MovementKind, PaymentState, canonical_payment_id, lists_are_read
from worker.settings import Merchant, Settings, SettingsError
from worker.settings.values import endpoint

#: For reaching the platform, TLS included: a host that does not answer by then will not, and nothing was sent yet.
CONNECT_SECONDS = 5

#: From this many digits on an id is of the platform's newer format, which has no underscore and no number after it.
LONG_ID_DIGITS = 19

#: A process says of a merchant that it is refused once in this time.
REFUSAL_TOLD_SECONDS = 60.0

log = structlog.get_logger("payhook.gateways")
logger = logging.getLogger("payhook.platform")
Answer = TypeVar("Answer")


class WorldlineGateway(Gateway):
    """One merchant's payments at Worldline Direct. Thread-safe, except that it is to be made after fork.

    Args:
        merchant: whose payments; its key signs every call.
        settings: how long a call may take, how many at a time. ``sdk_properties``, an SDK properties file (section
            ``[OnlinePaymentsSDK]``), gives endpoint, integrator and time-outs instead: ``connectTimeout`` for reaching
            the platform, ``socketTimeout`` for a whole call, in seconds, where they are shorter than ours.

    Raises:
        SettingsError: the properties file cannot be read or asks for what we do not do.
    """

    def __init__(self, merchant: Merchant, settings: Settings):
        self.merchant_id = merchant.id
        self._refusal_told_until = -math.inf
        configuration = _configuration(merchant, settings)
        self.host = configuration.api_endpoint.netloc
        self._connection = PlatformConnection(
            configuration.api_endpoint.geturl(),
            call_seconds=min(settings.call_seconds, configuration.socket_timeout),
            connect_seconds=min(CONNECT_SECONDS, configuration.connect_timeout),
            pool_size=settings.platform_threads,
        )
        if settings.platform_log:
            self._connection.enable_logging(PythonCommunicatorLogger(logger, logging.INFO))
        client = Factory.create_client_from_configuration(
            configuration, connection=self._connection, marshaller=orders.StoredBytes()
        )
        self._merchant = client.merchant(merchant.id)

    def look(self, payment_id: str, *, seconds: float) -> PaymentView:
        """See `Gateway.look`. Up to four calls, one after the other, all within ``seconds``."""
        canonical = canonical_payment_id(payment_id) if PLATFORM_ID.fullmatch(payment_id) else None
        if canonical is None:
            raise Refused("not a payment id; nothing was sent")
        asked = initial_id(canonical)
        with deadline(seconds):
            payment = self._ask("get_payment", self._merchant.payments().get_payment, asked)
            view = _read("get_payment", lambda: payment_view(self.merchant_id, canonical, payment))
            if not lists_are_read(view.state, view.status_code):
                return view
            details = self._ask_on("get_payment_details", self._merchant.payments().get_payment_details, asked)
            moved = _read("get_payment_details", lambda: cancellations_of(details, canonical))
            captures = self._ask_on("get_captures", self._merchant.captures().get_captures, asked)
            moved += (captured := _read("get_captures", lambda: captures_of(captures, canonical)))
            calls = 3
            if captured or view.state in (PaymentState.CAPTURED, PaymentState.REFUNDED):
                calls = 4
                refunds = self._ask_on("get_refunds", self._merchant.refunds().get_refunds, asked)
                moved += _read("get_refunds", lambda: refunds_of(refunds, canonical))
        return _read("look", lambda: with_movements(replace(view, calls=calls), moved))

    def compose(
        self,
        kind: MovementKind,
        amount: int,
        currency: str,
        *,
        is_final: bool,
        reference: str,
        group_reference: str | None = None,
        reason: str | None = None,
    ) -> bytes:
        """See `Gateway.compose`."""
        return orders.composed(
            kind,
            amount,
            currency,
            is_final=is_final,
            reference=reference,
            group_reference=group_reference,
            reason=reason,
        )

    def send(self, order: Order, *, seconds: float) -> Movement | Receipt:
        """See `Gateway.send`. One call, of the payment's initial transaction, as the platform wants it."""
        payments = self._merchant.payments()
        ask = {
            MovementKind.CAPTURE: payments.capture_payment,
            MovementKind.REFUND: payments.refund_payment,
            MovementKind.CANCEL: payments.cancel_payment,
        }[order.kind]
        context = CallContext(order.idempotence_key)
        with self._calling(ask.__name__):
            try:
                orders.check(order)
                with deadline(seconds):
                    return ordered_movement(order, ask(initial_id(order.payment_id), order.body, context))
            except Exception as error:
                failure = gateway_error(error, ask.__name__, moves_money=True)
            # A conflict is no kept answer: there is none yet.
            failure.replayed = context.idempotence_request_timestamp is not None and not isinstance(failure, InProgress)
            raise failure

    @contextmanager
    def _calling(self, call: str) -> Iterator[None]:
        """A call, told of: which it was, what came of it, how long it took."""
        began, outcome, status = time.monotonic(), "answered", None
        try:
            with metrics.platform_call(self.merchant_id, call), tracing.span(call, merchant_id=self.merchant_id):
                yield
        except GatewayError as error:
            outcome, status = type(error).__name__, error.http_status
            if isinstance(error, CredentialsRefused):
                self._tell_refused(error)
            raise
        finally:
            ms = round((time.monotonic() - began) * 1000)
            log.debug("platform.called", call=call, outcome=outcome, http_status=status, ms=ms)

    def _tell_refused(self, error: CredentialsRefused) -> None:
        """One line in a while: every call of the merchant ends so until a person mends it."""
        at = time.monotonic()
        if at >= self._refusal_told_until:
            self._refusal_told_until = at + REFUSAL_TOLD_SECONDS
            log.error("credentials.refused", security=True, merchant_id=self.merchant_id, http_status=error.http_status)

    def contact(self, *, seconds: float) -> Contact:
        """See `Gateway.contact`. One call, ``services/testconnection``."""
        refusal = None
        self._connection.time_told = None
        try:
            with deadline(seconds):
                _read("test_connection", self._merchant.services().test_connection)
        except GatewayError as error:
            refusal = error
        return Contact(refusal, _skew(self._connection.time_told))

    def is_webhook_key(self, key_id: str, signature_of_nothing: str, *, seconds: float) -> bool:
        """See `Gateway.is_webhook_key`. One call, ``webhooks/validateCredentials``."""
        asked = ValidateCredentialsRequest()
        asked.key, asked.secret = key_id, signature_of_nothing
        with deadline(seconds):
            return _read("validate_webhook_credentials", lambda: self._is_valid(asked))

    def _is_valid(self, asked: ValidateCredentialsRequest) -> bool:
        result = self._merchant.webhooks().validate_webhook_credentials(asked).result
        if result not in ("Valid", "Invalid"):
            raise UnusableAnswer("result is neither Valid nor Invalid")
        return bool(result == "Valid")

    def close(self) -> None:
        """Let go of the connections; nothing is sent after it."""
        self._connection.close()

    def _ask(self, call: str, method: Callable[[str], Any], asked: str) -> Any:
        with self._calling(call):
            return _read(call, lambda: method(asked))

    def _ask_on(self, call: str, method: Callable[[str], Any], asked: str) -> Any:
        """Ask for a part of a payment that was answered a moment ago: if it is unknown now, it will not be for long."""
        try:
            return self._ask(call, method, asked)
        except PaymentUnknown as unknown:
            told, error_id = unknown.told, unknown.error_id
        raise TryAgain(told, http_status=404, error_id=error_id)


def initial_id(payment_id: str) -> str:
    """The id a payment is asked for by. The SDK puts it into the URL as it is, so only digits may get here.

    Maintenance of a payment is bound to its initial transaction, ``…_0``, and asking for that one answers for the
    payment whichever of its operations a webhook named; so what is asked depends on the payment alone, not on how it
    was spelt. A long id (19 or 20 digits) that does not wrap a short one has no such number and is asked for as it is.

    Args:
        payment_id: the canonical id.
    """
    return payment_id if len(payment_id) >= LONG_ID_DIGITS else f"{payment_id}_0"


def _read(call: str, step: Callable[[], Answer]) -> Answer:
    """Do one step of a look, and name its failure. Raised outside the ``except``, see `gateway_error`."""
    try:
        return step()
    except Exception as error:
        failure = gateway_error(error, call, moves_money=False)
    raise failure


def _skew(told: tuple[str | None, float] | None) -> float | None:
    """How much our clock is ahead of the time that came with an answer, in seconds; its time has whole ones."""
    if told is None or told[0] is None:
        return None
    try:
        return told[1] - parsedate_to_datetime(told[0]).timestamp()
    except (ValueError, OverflowError):
        return None


def _configuration(merchant: Merchant, settings: Settings) -> CommunicatorConfiguration:
    if settings.sdk_properties is not None:
        return _configuration_of_file(settings.sdk_properties, merchant)
    return CommunicatorConfiguration(
        api_endpoint=merchant.api_endpoint,
        api_key_id=merchant.api_key_id,
        secret_api_key=merchant.api_secret.get_secret_value(),
        authorization_type=AuthorizationType.V1HMAC,
        connect_timeout=CONNECT_SECONDS,
        socket_timeout=settings.call_seconds,
        max_connections=settings.platform_threads,
        integrator="payhook",
    )


def _configuration_of_file(path: Path, merchant: Merchant) -> CommunicatorConfiguration:
    try:
        configuration = Factory.create_configuration(
            str(path), merchant.api_key_id, merchant.api_secret.get_secret_value()
        )
    except (NoOptionError, NoSectionError) as error:
        raise _wrong(path, error.message) from None
    except Exception as error:  # whatever open(), ConfigParser, int() and urllib raise; some quote the file's lines
        raise _wrong(path, f"it cannot be read ({type(error.__cause__ or error).__name__})") from None
    if configuration.api_endpoint is None:
        raise _wrong(path, "there is no section [OnlinePaymentsSDK]")
    try:
        endpoint(configuration.api_endpoint.geturl())
    except ValueError as error:
        raise _wrong(path, f"the endpoint is {error}") from None
    if configuration.connect_timeout <= 0 or configuration.socket_timeout <= 0:
        raise _wrong(path, "connectTimeout and socketTimeout are seconds, and more than 0")
    if configuration.proxy_configuration is not None:
        raise _wrong(path, "a proxy is not supported; remove its lines")
    configuration.integrator = configuration.integrator or "payhook"
    return configuration


def _wrong(path: Path, told: str) -> SettingsError:
    return SettingsError(f"PAYHOOK_SDK_PROPERTIES: {path}: {told}")
