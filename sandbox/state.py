"""Everything the sandbox knows, as one JSON document: to look at, to keep, to start from again."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from sandbox.authentication import Merchant, Merchants
from sandbox.cards import Card
from sandbox.faults import Faults, Rule, refused_for
from sandbox.idempotence import Entry, IdempotenceKeys
from sandbox.ledger import Ledger
from sandbox.payments import Payment
from sandbox.settings import Dials, Settings
from sandbox.vault import Session
from sandbox.webhooks import Deliveries, Waiting

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What has something to remember."""

    dials: Dials
    merchants: Merchants
    ledger: Ledger
    keys: IdempotenceKeys
    faults: Faults
    deliveries: Deliveries


@dataclass(frozen=True, slots=True)
class State:
    """Not in it: counts of calls, the log of deliveries, what a fault has put off until later."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    settings: Settings
    merchants: list[Merchant]
    payments: list[Payment]
    cards: dict[str, dict[str, Card]]  # by merchant and token
    sessions: dict[str, Session]
    payouts: dict[str, dict[str, Json]]  # by merchant and id
    idempotence_keys: list[Entry]
    faults: list[Rule]
    webhooks: list[Waiting]


_STATE = TypeAdapter(State)


def save(parts: Parts) -> Json:
    """The state of one moment."""
    with parts.ledger.lock:
        state = State(
            settings=parts.dials.now,
            merchants=parts.merchants.all(),
            payments=parts.ledger.all(),
            cards=parts.ledger.vault.cards,
            sessions=parts.ledger.vault.sessions,
            payouts=parts.ledger.payouts,
            idempotence_keys=parts.keys.saved(),
            faults=parts.faults.saved(),
            webhooks=parts.deliveries.waiting(),
        )
        saved: Json = _STATE.dump_python(state, mode="json")
        return saved


def load(parts: Parts, given: Json) -> Json:
    """Replace everything by a saved state; what was pending then settles after the settling time.

    Returns:
        How many payments, webhooks to be sent, … there are now.

    Raises:
        Refused: it is no saved state; nothing is changed.
    """
    try:
        state = _STATE.validate_python(given)
    except ValidationError as error:
        raise refused_for(error) from None
    with parts.ledger.lock:
        parts.dials.now = state.settings
        parts.merchants.restore(state.merchants)
        parts.ledger.restore(state.payments)
        parts.ledger.vault.restore(state.cards, state.sessions)
        parts.ledger.payouts = defaultdict(dict, state.payouts)
        parts.keys.restore(state.idempotence_keys)
        parts.faults.restore(state.faults)
        parts.deliveries.restore(state.webhooks)
    return {name: len(value) for name, value in asdict(state).items() if isinstance(value, list)}
