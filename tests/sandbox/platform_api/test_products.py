"""What a shop may offer."""

import pytest
from onlinepayments.sdk.merchant.productgroups.get_product_group_params import GetProductGroupParams
from onlinepayments.sdk.merchant.productgroups.get_product_groups_params import GetProductGroupsParams
from onlinepayments.sdk.merchant.products.get_payment_product_networks_params import GetPaymentProductNetworksParams
from onlinepayments.sdk.merchant.products.get_payment_product_params import GetPaymentProductParams
from onlinepayments.sdk.merchant.products.get_payment_products_params import GetPaymentProductsParams
from onlinepayments.sdk.reference_exception import ReferenceException
from onlinepayments.sdk.validation_exception import ValidationException


def asked(params, **more):
    """For Belgium, in euros."""
    for name, value in {"country_code": "BE", "currency_code": "EUR", **more}.items():
        setattr(params, name, value)
    return params


def test_products_are_listed_with_what_describes_them(merchant):
    """Id, method, label, and the fields of a card."""
    products = merchant.products().get_payment_products(asked(GetPaymentProductsParams(), amount=1000)).payment_products

    visa = products[0]
    assert (visa.id, visa.payment_method, visa.display_hints.label) == (1, "card", "Visa")
    assert [field.id for field in visa.fields] == ["cardNumber", "expiryDate", "cvv", "cardholderName"]
    assert {product.id for product in products} == {1, 2, 3, 302, 320, 840}


def test_parts_can_be_hidden(merchant):
    """What is named by hide is left out."""
    params = asked(GetPaymentProductsParams(), hide=["fields", "accountsOnFile"])

    products = merchant.products().get_payment_products(params).payment_products

    assert products[0].fields is None
    assert products[0].id == 1


def test_one_product_can_be_looked_at(merchant):
    """By its id; an unknown one is a reference exception."""
    params = asked(GetPaymentProductParams())

    assert merchant.products().get_payment_product(3, params).display_hints.label == "Mastercard"
    with pytest.raises(ReferenceException) as refusal:
        merchant.products().get_payment_product(-1, params)
    assert (refusal.value.status_code, refusal.value.errors[0].id) == (404, "UNKNOWN_PRODUCT_ID")


def test_wallets_have_networks(merchant):
    """Apple Pay and Google Pay; a card is its own."""
    params = asked(GetPaymentProductNetworksParams())

    assert "visa" in merchant.products().get_payment_product_networks(302, params).networks
    with pytest.raises(ReferenceException):
        merchant.products().get_payment_product_networks(1, params)


def test_groups_are_listed_and_looked_at(merchant):
    """There is one: the cards."""
    groups = merchant.product_groups().get_product_groups(asked(GetProductGroupsParams())).payment_product_groups
    group = merchant.product_groups().get_product_group("cards", asked(GetProductGroupParams()))

    assert [each.id for each in groups] == ["cards"]
    assert group.display_hints.label == "Cards"
    with pytest.raises(ReferenceException):
        merchant.product_groups().get_product_group("none", asked(GetProductGroupParams()))


def test_country_and_currency_are_required(merchant):
    """Both are missing, and both are named."""
    with pytest.raises(ValidationException) as refusal:
        merchant.products().get_payment_products(GetPaymentProductsParams())

    assert [error.property_name for error in refusal.value.errors] == ["countryCode", "currencyCode"]
