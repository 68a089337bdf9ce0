"""A call of the platform's API as its endpoint gets it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sandbox.bodies import Form, Json
from sandbox.ledger import Ledger
from sandbox.wire import Request


@dataclass(frozen=True, slots=True)
class Call:
    """A call whose sender is known, not yet looked at further."""

    merchant_id: str
    name: str  # the SDK's, and the endpoint's
    family: str  # of its path: payments, tokens, …
    resource_id: str  # empty when the path names none
    body: Json
    request: Request
    idempotence_key: str | None = None
    as_of: datetime | None = None  # payments are shown as they were then

    @property
    def payment_id(self) -> str:
        """Empty when the call is about no payment that exists already."""
        return self.resource_id if self.family == "payments" else ""

    @property
    def form(self) -> Form:
        return Form(self.body)

    @property
    def query(self) -> str:
        return self.request.target.partition("?")[2]

    @property
    def host(self) -> str:
        """Under which the caller knows us: the addresses in answers start with it."""
        return self.request.headers.get("host", "")


Reply = tuple[int, Json | None]  # status and body; None: no body
Endpoint = Callable[[Ledger, Call], Reply]
