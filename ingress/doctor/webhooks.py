"""Lines about webhooks: the keys they are verified with, whether the platform has the same, and whether any come."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial

from ingress.doctor.installation import Installation
from ingress.doctor.lines import LINE_SECONDS, SECOND_SECONDS, Finding, Line, NotAsked, failed, ok, warning
from ingress.doctor.platform import known
from ingress.key_stores import KeyStoreUnavailable, WebhookKey, kind_of_store
from ingress.signatures import signature_of
from worker.gateways.gateway import GatewayError
from worker.settings import PREFIX, SettingsError

#: A key that ends within this, with none to follow, is reported.
ENDS_SOON = timedelta(days=7)

#: Keys of one merchant that the platform is asked about.
MOST_KEYS = 10

Keys = Mapping[str, WebhookKey]


def lines(of: Installation) -> list[Line]:
    told = [Line("key store", lambda: key_store(of))]
    for merchant_id in of.merchants or (None,):
        told += [
            Line("webhook key", partial(webhook_key, of, merchant_id), merchant_id, SECOND_SECONDS),
            Line("webhooks", partial(webhooks, of, merchant_id), merchant_id),
        ]
    return told


def key_store(of: Installation) -> Finding:
    """Whether the keys can be read, and whether every merchant has one that lasts."""
    try:
        keys = of.keys()
    except (KeyStoreUnavailable, SettingsError) as error:
        return failed(f"{of.settings.key_store} {error}", _readable(of))
    good = {key_id: key for key_id, key in keys.items() if not key.expired()}
    if not good:
        gone = f"{len(keys)} have expired" if keys else "there is none"
        return failed(f"no key verifies, {gone}: every webhook is answered 401", _another(of))
    for merchant_id in of.merchants or (None,):
        mine = keys_of(good, merchant_id)
        whose = "" if merchant_id is None else f" of {merchant_id}"
        if not mine:
            return failed(f"no key{whose} verifies: its webhooks are kept and not looked at", _another(of))
        if all(_ends_soon(key) for key in mine.values()):
            key_id, key = max(mine.items(), key=lambda item: item[1].not_after or datetime.max.replace(tzinfo=UTC))
            return warning(f"the last key{whose}, {key_id}, ends at {key.not_after:%Y-%m-%d %H:%M} UTC", _another(of))
    ending = [key_id for key_id, key in good.items() if _ends_soon(key)]
    told = f"; within a week these end: {', '.join(ending)}" if ending else ""
    return ok(f"{len(good)} of {len(keys)} keys in {of.settings.key_store} verify{told}")


def webhook_key(of: Installation, merchant_id: str | None) -> Finding:
    """Whether the platform signs with one of our keys. It is told what the secret makes of nothing, not the secret."""
    at = known(of, merchant_id)
    try:
        mine = keys_of({key_id: key for key_id, key in of.keys().items() if not key.expired()}, at)
    except (KeyStoreUnavailable, SettingsError):
        raise NotAsked("the keys cannot be read", "key store") from None
    if not mine:
        raise NotAsked("there is no key", "key store")
    if of.contact(at).refusal is not None:
        raise NotAsked("the platform gives no answer", f"credentials {at}")
    gateway, asked = of.gateways()[at], list(mine)[:MOST_KEYS]
    for key_id in asked:
        signature = signature_of(b"", mine[key_id].secret.get_secret_value().encode())
        try:
            if gateway.is_webhook_key(key_id, signature, seconds=LINE_SECONDS / len(asked)):
                return ok(f"the platform signs with {key_id}")
        except GatewayError as error:
            raise NotAsked(f"the platform does not say: {error.told}", f"credentials {at}") from None
    return failed(
        f"the platform knows none of {', '.join(asked)} with the secret it has here: its webhooks are answered 401",
        f"take key id and secret from the platform's portal: {_another(of)}",
    )


def webhooks(of: Installation, merchant_id: str | None) -> Finding:
    """Whether webhooks come as they usually do."""
    at = known(of, merchant_id)
    found = [one for one in of.standing().silences if one.merchant_id == at]
    if not found:
        return ok("not watched yet: no worker has looked at it")
    silence = found[0]
    last = f"the last came {silence.last_at:%Y-%m-%d %H:%M:%S} UTC" if silence.last_at else "none ever came"
    if silence.missed_since is None:
        return ok(last)
    return failed(
        f"missed since {silence.missed_since:%Y-%m-%d %H:%M:%S} UTC: {last}, and {silence.moved} payments have moved",
        "set the webhook URL in the platform's portal to this ingress's, and let it send a test from there",
    )


def keys_of(keys: Keys, merchant_id: str | None) -> Keys:
    """The keys that may speak for a merchant, its own first."""
    mine = {key_id: key for key_id, key in keys.items() if key.merchant_id is not None}
    own = {key_id: key for key_id, key in mine.items() if merchant_id in (None, key.merchant_id)}
    return own | {key_id: key for key_id, key in keys.items() if key.merchant_id is None}


def _ends_soon(key: WebhookKey) -> bool:
    return key.not_after is not None and key.not_after <= datetime.now(UTC) + ENDS_SOON


def _another(of: Installation) -> str:
    kind = kind_of_store(of.settings)[0]
    if kind in ("database", "file"):
        return "`payhook keys add KEY_ID`"
    if kind == "memory":
        return f"set {PREFIX}WEBHOOK_KEYS=KEY_ID=SECRET, and start again"
    return f"add one where {of.settings.key_store} keeps them"


def _readable(of: Installation) -> str:
    if of.settings.key_store == "database:":
        return 'mend what "database" says, or what is said here of the encryption keys'
    return f"mend what is said here, or correct {PREFIX}KEY_STORE"
