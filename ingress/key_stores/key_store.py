"""Where webhook secrets are kept: what a key is, and what a store must do."""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

#: What a key id may look like; nothing else is ever looked up.
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

#: The most a file of keys may hold, in bytes: five keys are usual, and a wrong path must not fill the memory.
MAX_FILE_BYTES = 64 * 1024


class KeyStoreUnavailable(Exception):
    """The keys cannot be read now: whether the key exists cannot be said, so the sender should try again."""


class KeyRefused(Exception):
    """A key was not added, retired or removed, for the reason given."""


@dataclass(frozen=True)
class WebhookKey:
    """A webhook secret and its limits; its text never shows the secret."""

    secret: SecretStr
    not_after: datetime | None = None
    merchant_id: str | None = None

    def expired(self) -> bool:
        # Our own clock, not the database's: this is a policy about minutes, and needs no round trip.
        return self.not_after is not None and self.not_after.timestamp() <= time.time()


class KeyStore(ABC):
    """Where webhook secrets are kept. To add one, write ``load`` and name it in ``KEY_STORE``."""

    @abstractmethod
    def load(self) -> Mapping[str, WebhookKey]:
        """Every key there is, by its id. Raise ``KeyStoreUnavailable`` when they cannot be read now."""

    def note_use(self, used: Mapping[str, datetime]) -> None:  # noqa: B027 - a store need not care
        """Told now and then, off the path of any webhook, when keys last verified one."""


def new_key(
    key_id: object, secret: object, *, not_after: datetime | None = None, merchant_id: str | None = None
) -> WebhookKey:
    """A key whose parts were looked at.

    Raises:
        ValueError: says what is wrong; never with a value, since any of them may be a secret in the wrong place.
    """
    if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
        raise ValueError("its id is not 1 to 128 of the characters A-Z a-z 0-9 . _ -")
    if not isinstance(secret, str) or not secret.strip():
        raise ValueError("its secret is blank or no text")
    if secret != secret.strip() or not secret.isprintable():
        raise ValueError("its secret has white space around it, a line end or an unprintable character in it")
    if not_after is not None and not_after.tzinfo is None:
        raise ValueError("its not_after has no zone; for example 2030-01-31T12:00:00Z")
    return WebhookKey(SecretStr(secret), not_after, merchant_id)


def state_of(retired_at: datetime | None, not_after: datetime | None, at: datetime) -> str:
    """What a list of keys says of one: active, retired (verifies until its time) or expired."""
    if not_after is not None and not_after <= at:
        return "expired"
    return "active" if retired_at is None else "retired"


def sooner(not_after: datetime | None, end: datetime) -> datetime:
    """The end of a key that is retired: one that it had already is never moved later."""
    return end if not_after is None else min(not_after, end)
