"""The cards that merchants keep at the platform, each behind a token."""

import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from sandbox.cards import Card
from sandbox.refusals import unknown


@dataclass(slots=True)
class Session:
    """A hosted tokenization: a form of the platform, shown in the shop's page, that the consumer fills in."""

    merchant_id: str
    token: str | None = None


class Vault:
    """Guarded by the ledger's lock, like all that calls change."""

    def __init__(self) -> None:
        self.cards: defaultdict[str, dict[str, Card]] = defaultdict(dict)  # by merchant, then token
        self.sessions: dict[str, Session] = {}

    def restore(self, cards: Mapping[str, dict[str, Card]], sessions: dict[str, Session]) -> None:
        self.cards = defaultdict(dict, cards)
        self.sessions = sessions

    def keep(self, merchant_id: str, card: Card) -> str:
        token = str(uuid.uuid4())
        self.cards[merchant_id][token] = card
        return token

    def has(self, merchant_id: str, token: str) -> bool:
        return token in self.cards[merchant_id]

    def card(self, merchant_id: str, token: str) -> Card:
        if not self.has(merchant_id, token):
            raise unknown("token", token)
        return self.cards[merchant_id][token]

    def forget(self, merchant_id: str, token: str) -> None:
        self.card(merchant_id, token)
        del self.cards[merchant_id][token]

    def open_session(self, merchant_id: str) -> str:
        session_id = uuid.uuid4().hex
        self.sessions[session_id] = Session(merchant_id)
        return session_id

    def session(self, session_id: str, merchant_id: str | None = None) -> Session:
        session = self.sessions.get(session_id)
        if session is None or merchant_id not in (None, session.merchant_id):
            raise unknown("hosted tokenization", session_id)
        return session
