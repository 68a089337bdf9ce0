"""Payouts: money sent to a card, no part of any payment; they are over at once and no event tells of them."""

from typing import Any

from sandbox import rendering, triggers
from sandbox.bodies import Json
from sandbox.calls import Call, Reply
from sandbox.cards import card_from
from sandbox.ledger import Ledger
from sandbox.platform_api.orders import LONGEST_REFERENCE
from sandbox.refusals import error_body, unknown


def create_payout(ledger: Ledger, call: Call) -> Reply:
    form = call.form
    amount, currency = form.money("amountOfMoney")
    card = card_from(form.part("cardPayoutMethodSpecificInput").part("card"))
    reference = form.part("references").text("merchantReference", LONGEST_REFERENCE)
    form.check()
    declined = ledger.declines("payout") or triggers.decline_by_card(card) is not None
    payout: Json = {
        "id": f"{ledger.next_number()}_0",
        "payoutOutput": {
            "amountOfMoney": {"amount": amount, "currencyCode": currency},
            "references": {} if reference is None else {"merchantReference": reference},
        },
        **_status(declined),
    }
    ledger.payouts[call.merchant_id][payout["id"]] = payout
    if declined:
        return 402, error_body([rendering.rejection(triggers.BAD_NUMBER, "INVALID_CARD")], payoutResult=payout)
    return 201, payout


def get_payout(ledger: Ledger, call: Call) -> Reply:
    payout = ledger.payouts[call.merchant_id].get(call.resource_id)
    if payout is None:
        raise unknown("payout", call.resource_id)
    return 200, payout


def _status(declined: bool) -> dict[str, Any]:
    code, status, category = (
        (2, "REJECTED_CREDIT", "UNSUCCESSFUL") if declined else (8, "ACCOUNT_CREDITED", "COMPLETED")
    )
    return {"status": status, "statusOutput": {"statusCode": code, "statusCategory": category, "isCancellable": False}}
