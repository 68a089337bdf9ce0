"""The platform's SDK guide, example by example, through the official SDK; and every exception that the API can raise.

Where the guide is stale for this SDK (modules it no longer has, settings that are no longer optional), what it does
today is written. Exceptions that take more than an answer of the API (500, 502, 503, HTML, cut-off bodies) are made by
faults and tested with them.
"""

import hashlib
import hmac
import logging
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from onlinepayments.sdk.api_exception import ApiException
from onlinepayments.sdk.authorization_exception import AuthorizationException
from onlinepayments.sdk.call_context import CallContext
from onlinepayments.sdk.communication.request_header import RequestHeader
from onlinepayments.sdk.communicator_configuration import CommunicatorConfiguration
from onlinepayments.sdk.declined_payment_exception import DeclinedPaymentException
from onlinepayments.sdk.declined_payout_exception import DeclinedPayoutException
from onlinepayments.sdk.declined_refund_exception import DeclinedRefundException
from onlinepayments.sdk.declined_transaction_exception import DeclinedTransactionException
from onlinepayments.sdk.domain.address import Address
from onlinepayments.sdk.domain.amount_of_money import AmountOfMoney
from onlinepayments.sdk.domain.card import Card
from onlinepayments.sdk.domain.card_payment_method_specific_input import CardPaymentMethodSpecificInput
from onlinepayments.sdk.domain.create_hosted_checkout_request import CreateHostedCheckoutRequest
from onlinepayments.sdk.domain.create_payment_request import CreatePaymentRequest
from onlinepayments.sdk.domain.create_payout_request import CreatePayoutRequest
from onlinepayments.sdk.domain.create_token_request import CreateTokenRequest
from onlinepayments.sdk.domain.customer import Customer
from onlinepayments.sdk.domain.hosted_checkout_specific_input import HostedCheckoutSpecificInput
from onlinepayments.sdk.domain.order import Order
from onlinepayments.sdk.domain.order_references import OrderReferences
from onlinepayments.sdk.domain.redirection_data import RedirectionData
from onlinepayments.sdk.domain.refund_request import RefundRequest
from onlinepayments.sdk.domain.send_test_request import SendTestRequest
from onlinepayments.sdk.domain.three_d_secure import ThreeDSecure
from onlinepayments.sdk.domain.validate_credentials_request import ValidateCredentialsRequest
from onlinepayments.sdk.factory import Factory
from onlinepayments.sdk.json.default_marshaller import DefaultMarshaller
from onlinepayments.sdk.log.python_communicator_logger import PythonCommunicatorLogger
from onlinepayments.sdk.merchant.products.get_payment_products_params import GetPaymentProductsParams
from onlinepayments.sdk.platform_exception import PlatformException
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException
from onlinepayments.sdk.webhooks.in_memory_secret_key_store import InMemorySecretKeyStore
from onlinepayments.sdk.webhooks.webhooks_helper import WebhooksHelper

KEY, SECRET = "sandbox-key", "sandbox-secret"
WEBHOOK_KEY, WEBHOOK_SECRET = "sandbox-webhook-key", "sandbox-webhook-secret-for-trying-out"


@pytest.fixture
def properties(box, tmp_path):
    """The file that the guide begins with, with every key that the SDK asks for today."""
    address = urlsplit(box.url)
    path = tmp_path / "sdk.ini"
    path.write_text(
        "[OnlinePaymentsSDK]\n"
        "onlinePayments.api.integrator=the shop\n"
        f"onlinePayments.api.endpoint.host={address.hostname}\n"
        f"onlinePayments.api.endpoint.scheme={address.scheme}\n"
        f"onlinePayments.api.endpoint.port={address.port}\n"
        "onlinePayments.api.authorizationType=v1HMAC\n"
        "onlinePayments.api.connectTimeout=5\n"
        "onlinePayments.api.socketTimeout=10\n"
        "onlinePayments.api.maxConnections=10\n"
    )
    return str(path)


@pytest.fixture
def client(properties):
    with Factory.create_client_from_file(properties, KEY, SECRET) as client:
        yield client


def order_of(amount=1000):
    order = Order()
    order.amount_of_money = AmountOfMoney()
    order.amount_of_money.amount = amount
    order.amount_of_money.currency_code = "EUR"
    order.customer = Customer()
    order.customer.merchant_customer_id = "customer-1"
    order.customer.billing_address = Address()
    order.customer.billing_address.country_code = "BE"
    order.references = OrderReferences()
    order.references.merchant_reference = "order-1"
    return order


def payment_request(amount=1000, number="4012000033330026", mode="FINAL_AUTHORIZATION"):
    request = CreatePaymentRequest()
    request.order = order_of(amount)
    request.card_payment_method_specific_input = CardPaymentMethodSpecificInput()
    request.card_payment_method_specific_input.authorization_mode = mode
    request.card_payment_method_specific_input.payment_product_id = 1
    request.card_payment_method_specific_input.card = Card()
    request.card_payment_method_specific_input.card.card_number = number
    request.card_payment_method_specific_input.card.cardholder_name = "Wile E. Coyote"
    request.card_payment_method_specific_input.card.cvv = "123"
    request.card_payment_method_specific_input.card.expiry_date = "1299"
    return request


def refund_of(amount):
    return RefundRequest().from_dictionary({"amountOfMoney": {"amount": amount, "currencyCode": "EUR"}})


# Initialisation


def test_a_client_from_a_properties_file(client):
    """The first thing to try is the connection."""
    assert client.merchant("sandbox").services().test_connection().result == "OK"


def test_a_client_from_a_communicator(properties):
    """The communicator is made first, and the client around it."""
    communicator = Factory.create_communicator_from_file(properties, KEY, SECRET)

    with Factory.create_client_from_communicator(communicator) as client:
        assert client.merchant("sandbox").services().test_connection().result == "OK"


def test_a_client_from_code(box):
    """Without a file everything is named, the number of connections too."""
    configuration = CommunicatorConfiguration(
        api_endpoint=box.url,
        api_key_id=KEY,
        secret_api_key=SECRET,
        authorization_type="v1HMAC",
        connect_timeout=5,
        socket_timeout=10,
        max_connections=10,
        integrator="the shop",
    )

    with Factory.create_client_from_configuration(configuration) as client:
        assert client.merchant("sandbox").services().test_connection().result == "OK"


def test_a_client_with_meta_info(client):
    """JSON of the shop's own, which travels in a signed header."""
    named = client.with_client_meta_info('{"shop": "1.0"}')

    assert named.merchant("sandbox").services().test_connection().result == "OK"


# Payments


def test_a_hosted_checkout(client, control):
    """Create it, send the consumer to its address, and ask for the payment when they are back."""
    request = CreateHostedCheckoutRequest()
    request.order = order_of(2345)
    request.hosted_checkout_specific_input = HostedCheckoutSpecificInput()
    request.hosted_checkout_specific_input.return_url = "https://shop.example/back"
    hosted_checkout = client.merchant("sandbox").hosted_checkout()

    created = hosted_checkout.create_hosted_checkout(request)
    control.pay_checkout(created.hosted_checkout_id)
    found = hosted_checkout.get_hosted_checkout(created.hosted_checkout_id)

    assert created.redirect_url
    assert created.returnmac
    assert found.status == "PAYMENT_CREATED"
    payment = found.created_payment_output.payment
    assert (payment.status, payment.payment_output.amount_of_money.amount) == ("PENDING_CAPTURE", 2345)
    assert payment.payment_output.references.merchant_reference == "order-1"


def test_a_payment_from_server_to_server(client):
    """Made with a card, and looked at by its id."""
    payments = client.merchant("sandbox").payments()

    created = payments.create_payment(payment_request(1000))
    found = payments.get_payment(created.payment.id)

    assert created.creation_output.external_reference == "order-1"
    assert (found.id, found.status, found.status_output.status_code) == (created.payment.id, "PENDING_CAPTURE", 5)


def test_a_payment_with_3_d_secure(client, control):
    """A challenge is answered by a redirect; after it the payment is authorised."""
    request = payment_request()
    secure = request.card_payment_method_specific_input.three_d_secure = ThreeDSecure()
    secure.challenge_indicator = "challenge-required"
    secure.redirection_data = RedirectionData()
    secure.redirection_data.return_url = "https://shop.example/back"
    payments = client.merchant("sandbox").payments()

    created = payments.create_payment(request)
    control.authorise(created.payment.id)

    assert created.merchant_action.action_type == "REDIRECT"
    assert created.payment.status == "REDIRECTED"
    assert payments.get_payment(created.payment.id).status == "PENDING_CAPTURE"


def test_a_payment_with_a_token(client):
    """The card is kept once, then the token pays."""
    merchant = client.merchant("sandbox")
    card = {"cardNumber": "4012000033330026", "expiryDate": "1299", "cvv": "123", "cardholderName": "Wile E. Coyote"}
    token = merchant.tokens().create_token(CreateTokenRequest().from_dictionary({"card": {"data": {"card": card}}}))
    request = payment_request()
    request.card_payment_method_specific_input.card = None
    request.card_payment_method_specific_input.token = token.token

    created = merchant.payments().create_payment(request)

    assert created.payment.status == "PENDING_CAPTURE"


def test_the_payment_products(client):
    """For a country and a currency."""
    params = GetPaymentProductsParams()
    params.country_code, params.currency_code = "BE", "EUR"

    assert client.merchant("sandbox").products().get_payment_products(params).payment_products


# Additional features


def test_a_call_context_leaves_a_first_call_as_it_is(client):
    """With an idempotence key the payment is made; nothing says that it was a replay."""
    context = CallContext("key-of-this-order")

    created = client.merchant("sandbox").payments().create_payment(payment_request(), context)

    assert created.payment.id
    assert context.idempotence_request_timestamp is None


def test_a_compressed_request(client):
    """A call context can have the body sent as gzip."""
    context = CallContext(gzip=True)

    assert client.merchant("sandbox").payments().create_payment(payment_request(), context).payment.id


def test_logging(client, caplog):
    """Requests and answers are logged, the card's number and the signature obscured."""
    client.enable_logging(PythonCommunicatorLogger(logging.getLogger("sdk"), logging.INFO))

    with caplog.at_level(logging.INFO, "sdk"):
        client.merchant("sandbox").payments().create_payment(payment_request())

    assert "/v2/sandbox/payments" in caplog.text
    assert "201" in caplog.text
    assert "4012000033330026" not in caplog.text


def test_connection_pooling(client):
    """One client, several threads."""
    services = client.merchant("sandbox").services()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: services.test_connection().result, range(40)))

    assert answers == ["OK"] * 40


def test_webhooks(client, control, receiver, settled):
    """The credentials are valid, the test event arrives, and the helper unmarshals it."""
    webhooks = client.merchant("sandbox").webhooks()
    hashed = b64encode(hmac.digest(WEBHOOK_SECRET.encode(), b"", hashlib.sha256)).decode()
    credentials = ValidateCredentialsRequest().from_dictionary({"key": WEBHOOK_KEY, "secret": hashed})
    store = InMemorySecretKeyStore.instance()
    store.store_secret_key(WEBHOOK_KEY, WEBHOOK_SECRET)
    helper = WebhooksHelper(DefaultMarshaller.instance(), store)

    result = webhooks.validate_webhook_credentials(credentials).result
    webhooks.send_test_webhook(SendTestRequest().from_dictionary({"url": receiver.url}))
    settled()
    headers, body = receiver.received[0]
    event = helper.unmarshal(body, [RequestHeader(name, value) for name, value in headers.items()])
    store.clear()  # it is shared by all of its kind

    assert result == "Valid"
    assert (event.type, event.payment.id) == ("payment.test", "9999_9")


# Exceptions


def raised(call, *arguments):
    """What the call raises, which is an ApiException of the platform's own making."""
    with pytest.raises(ApiException) as caught:
        call(*arguments)
    exception = caught.value
    assert exception.error_id
    assert exception.errors
    assert {error.http_status_code for error in exception.errors} == {exception.status_code}
    assert exception.error_id in exception.response_body
    return exception


def test_400_is_a_validation_exception(client):
    """A value that cannot be."""
    exception = raised(client.merchant("sandbox").payments().create_payment, payment_request(number="123"))

    assert type(exception) is ValidationException
    assert (exception.status_code, len(exception.errors)) == (400, 1)


def test_402_with_a_payment_is_a_declined_payment_exception(client):
    """A sale that the issuer declines: a declined transaction, with the payment."""
    exception = raised(client.merchant("sandbox").payments().create_payment, payment_request(1302, mode="SALE"))

    assert type(exception) is DeclinedPaymentException
    assert isinstance(exception, DeclinedTransactionException)
    assert exception.status_code == 402
    assert exception.create_payment_response.payment.status == "REJECTED"


def test_402_with_a_refund_is_a_declined_refund_exception(client, control):
    """A refund that the acquirer declines at once."""
    payment_id = control.create_payments(sale=True)[0]
    control.settings(decline_next={"refund": 1})

    exception = raised(client.merchant("sandbox").payments().refund_payment, payment_id, refund_of(500))

    assert type(exception) is DeclinedRefundException
    assert isinstance(exception, DeclinedTransactionException)
    assert (exception.status_code, exception.refund_response.status) == (402, "REJECTED")


def test_402_with_a_payout_is_a_declined_payout_exception(client):
    """A payout to a card that is none."""
    request = CreatePayoutRequest().from_dictionary(
        {
            "amountOfMoney": {"amount": 1000, "currencyCode": "EUR"},
            "cardPayoutMethodSpecificInput": {"card": {"cardNumber": "4321456998744563", "expiryDate": "1299"}},
        }
    )

    exception = raised(client.merchant("sandbox").payouts().create_payout, request)

    assert type(exception) is DeclinedPayoutException
    assert isinstance(exception, DeclinedTransactionException)
    assert (exception.status_code, exception.payout_result.status) == (402, "REJECTED_CREDIT")


def test_403_is_an_authorization_exception(client):
    """Another merchant's door, with one's own key."""
    exception = raised(client.merchant("elsewhere").services().test_connection)

    assert type(exception) is AuthorizationException
    assert exception.status_code == 403


def test_404_is_a_reference_exception(client):
    """A payment that nobody made."""
    exception = raised(client.merchant("sandbox").payments().get_payment, "9999999999_0")

    assert type(exception) is ReferenceException
    assert (exception.status_code, exception.errors[0].id) == (404, "UNKNOWN_PAYMENT_ID")


def test_all_of_them_are_caught_as_the_guide_catches_them(client):
    """The declined payment before the rest, and the platform's own failures are none of these."""
    caught = []
    for request in (payment_request(1302, mode="SALE"), payment_request(number="123")):
        try:
            client.merchant("sandbox").payments().create_payment(request)
        except DeclinedPaymentException as decline:
            caught.append(decline.create_payment_response.payment.status)
        except PlatformException:
            caught.append("platform")
        except ApiException as exception:
            caught.append(exception.errors[0].id)

    assert caught == ["REJECTED", "INVALID_VALUE"]
