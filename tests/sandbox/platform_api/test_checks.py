"""The first digits of a card tell whose it is; testconnection is in test_platform_api.py."""

import pytest
from onlinepayments.sdk.domain.get_iin_details_request import GetIINDetailsRequest
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException


def iin_details(merchant, digits):
    return merchant.services().get_iin_details(GetIINDetailsRequest().from_dictionary({"bin": digits}))


@pytest.mark.parametrize(
    ("digits", "product", "scheme"),
    [
        ("401200", 1, "Visa"),
        ("378282", 2, "American Express"),
        ("55555555", 3, "Mastercard"),
        ("222300", 3, "Mastercard"),
    ],
)
def test_the_first_digits_tell_the_scheme(merchant, digits, product, scheme):
    """Six digits are enough."""
    details = iin_details(merchant, digits)

    assert (details.payment_product_id, details.card_scheme, details.card_type) == (product, scheme, "Credit")


def test_too_few_digits_are_refused(merchant):
    """Three tell nothing."""
    with pytest.raises(ValidationException) as refusal:
        iin_details(merchant, "123")

    assert refusal.value.errors[0].property_name == "bin"


def test_digits_of_no_scheme_are_unknown(merchant):
    """404."""
    with pytest.raises(ReferenceException) as refusal:
        iin_details(merchant, "999999")

    assert refusal.value.errors[0].id == "UNKNOWN_IIN_ID"
