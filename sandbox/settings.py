"""What can be set while the sandbox runs, with its defaults; changed only through ``Dials``."""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar

from sandbox.payments import Kind
from sandbox.refusals import Refused, invalid_value

T = TypeVar("T")

Declinable = Literal["payment", "refund", "payout"]

MAX_URLS = 5  # as many as the portal takes
RETRY_SECONDS = (600.0, 3600.0, 7200.0, 28800.0, 86400.0)  # the platform's: 10 min, 1 h, 2 h, 8 h, 24 h


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    urls: tuple[str, ...] = ()
    key_id: str = "sandbox-webhook-key"
    secret: str = "sandbox-webhook-secret-for-trying-out"  # noqa: S105  (printed at the start, guards nothing)
    copies: int = 1  # how often each event is sent
    delay_seconds: float = 0.0  # each is late by a random time up to this
    shuffle: bool = False  # events close in time overtake one another
    drop_share: float = 0.0  # of the events, this share is never sent
    paused: bool = False  # everything is kept back until unset
    resign_retries: bool = True  # a retry is signed with the key of its moment, else with that of the first attempt
    new_ids_on_retry: bool = False  # a retry comes in a new envelope: another id, another "created"


@dataclass(frozen=True, slots=True)
class RefuseNext:
    """How many of the next operations of each kind the acquirer refuses (93, 83, 63)."""

    capture: int = 0
    refund: int = 0
    cancel: int = 0


@dataclass(frozen=True, slots=True)
class DeclineNext:
    """How many of the next requests of each kind are declined at once (402)."""

    payment: int = 0
    refund: int = 0
    payout: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    latency_seconds: float = 0.0  # from the decision to the answer of every platform call
    settle_seconds: float = 0.3  # from the answer "pending" to the outcome
    retry_seconds: tuple[float, ...] = RETRY_SECONDS
    idempotence_seconds: float = 86_400.0  # how long an idempotence key is remembered
    sale_lists_capture: bool = True  # does get_captures list the capture of a sale made from now on?
    refuse_next: RefuseNext = field(default_factory=RefuseNext)
    decline_next: DeclineNext = field(default_factory=DeclineNext)
    amount_triggers: bool = True  # do the platform's test amounts decline, refuse, leave uncertain?
    long_ids: bool = False  # do payments made from now on have ids of the long format?
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    seed: int = 1  # what webhooks suffer is drawn from it


class Dials:
    """The settings of the moment: read without a lock, replaced as a whole."""

    def __init__(self, settings: Settings):
        self.now = settings
        self._lock = threading.Lock()

    def change(self, changes: Mapping[str, Any]) -> Settings:
        with self._lock:
            self.now = changed(self.now, changes)
            return self.now

    def refuses(self, kind: Kind) -> bool:
        """Is this operation one of those to be refused? Each True uses one up."""
        return self._uses_up("refuse_next", kind)

    def declines(self, what: Declinable) -> bool:
        """Is this request one of those to be declined? Each True uses one up."""
        return self._uses_up("decline_next", what)

    def _uses_up(self, counters: str, name: str) -> bool:
        with self._lock:
            present = getattr(self.now, counters)
            left: int = getattr(present, name)
            if left:
                fewer: Any = {counters: replace(present, **{name: left - 1})}
                self.now = replace(self.now, **fewer)
            return left > 0


def names(settings: object, prefix: str = "") -> list[str]:
    """Every setting's name, those inside others with a dot."""
    found: list[str] = []
    for name, value in ((f.name, getattr(settings, f.name)) for f in fields(settings)):  # type: ignore[arg-type]
        found += names(value, f"{prefix}{name}.") if is_dataclass(value) else [prefix + name]
    return found


def as_json(settings: Settings) -> dict[str, Any]:
    return asdict(settings)


def changed(settings: T, changes: Mapping[str, Any], prefix: str = "") -> T:
    """A copy with the changes; nothing is taken if one of them is wrong."""
    known = [f.name for f in fields(settings)]  # type: ignore[arg-type]
    values = {}
    for name, value in changes.items():
        if name not in known:
            raise Refused(
                400, "INVALID_VALUE", "50001111", f"unknown name {prefix}{name}; known are {', '.join(known)}"
            )
        values[name] = _checked(prefix + name, getattr(settings, name), value)
    return replace(settings, **values)  # type: ignore[type-var]


def _checked(name: str, present: Any, value: Any) -> Any:
    """The new value in the present one's type."""
    if is_dataclass(present):
        if not isinstance(value, dict):
            raise invalid_value(name, "an object is expected")
        return changed(present, value, name + ".")
    if isinstance(present, tuple):
        if not isinstance(value, (list, tuple)):
            raise invalid_value(name, "a list is expected")
        if name == "webhooks.urls" and len(value) > MAX_URLS:
            raise invalid_value(name, f"at most {MAX_URLS} are expected")
        sample: Any = 0.0 if name == "retry_seconds" else ""
        return tuple(_checked(name, sample, each) for each in value)
    if isinstance(present, float):
        value = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if type(value) is not type(present):
        raise invalid_value(name, f"{type(present).__name__} is expected")
    highest = 1 if name == "webhooks.drop_share" else 10**9
    if isinstance(value, (int, float)) and not 0 <= value <= highest:
        raise invalid_value(name, f"between 0 and {highest} is expected")
    return value
