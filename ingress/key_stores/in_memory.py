"""Keys given at the start, by a setting: for trying things out, and for secrets that the environment brings."""

from collections.abc import Mapping

from ingress.key_stores.key_store import KeyStore, WebhookKey, new_key
from worker.settings import PREFIX, Settings, SettingsError

NAME = f"{PREFIX}WEBHOOK_KEYS"


class InMemoryKeyStore(KeyStore):
    """Keys given at the start; nothing is shared between instances (the SDK's own store does)."""

    def __init__(self, keys: Mapping[str, WebhookKey]):
        self._keys = dict(keys)

    def load(self) -> Mapping[str, WebhookKey]:
        return self._keys


def keys_of_setting(settings: Settings) -> dict[str, WebhookKey]:
    """The keys of ``id=secret,id2=secret2``.

    Raises:
        SettingsError: says which entry is wrong by its place: what it holds may be a secret.
    """
    given = settings.webhook_keys.get_secret_value() if settings.webhook_keys else ""
    if not given.strip():
        raise SettingsError(f"{NAME} is missing; with {PREFIX}KEY_STORE=memory: it is id=secret,id2=secret2")
    keys: dict[str, WebhookKey] = {}
    for number, entry in enumerate(given.split(","), start=1):
        key_id, equals, secret = entry.partition("=")  # at the first: a secret in base64 ends with some
        key_id = key_id.strip()
        if not equals:
            raise SettingsError(f"{NAME}: entry {number} is not id=secret (a secret with a comma needs another store)")
        if key_id in keys:
            raise SettingsError(f"{NAME}: entry {number} has the id of an earlier one")
        try:
            keys[key_id] = new_key(key_id, secret)
        except ValueError as error:
            raise SettingsError(f"{NAME}: entry {number}: {error}") from None
    return keys
