"""Hosted tokenizations: the platform's card form inside the shop's page; what comes of it is a token."""

from sandbox.calls import Call, Reply
from sandbox.ledger import Ledger
from sandbox.platform_api.tokens import token_json


def create_hosted_tokenization(ledger: Ledger, call: Call) -> Reply:
    session_id = ledger.vault.open_session(call.merchant_id)
    page = f"{call.host}/sandbox/hostedtokenizations/{session_id}"
    return 201, {
        "hostedTokenizationId": session_id,
        "hostedTokenizationUrl": f"http://{page}",
        "partialRedirectUrl": page,
        "invalidTokens": [],
        "expiredCardTokens": [],
    }


def get_hosted_tokenization(ledger: Ledger, call: Call) -> Reply:
    """Empty until the consumer has given a card."""
    token = ledger.vault.session(call.resource_id, call.merchant_id).token
    if token is None:
        return 200, {}
    return 200, {"token": token_json(token, ledger.vault.card(call.merchant_id, token)), "tokenStatus": "CREATED"}
