"""The family of policies: what we do with a merchant's payments of our own accord, by the setting ``POLICY``."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from worker.lifecycle import MovementKind, PaymentState
from worker.policies.capture_after import CaptureAfter
from worker.policies.capture_when_authorised import CaptureWhenAuthorised
from worker.policies.function import FunctionPolicy
from worker.policies.manual import Manual
from worker.policies.policy import PaymentFacts, Policy, Wanted
from worker.settings import PREFIX, Settings, SettingsError
from worker.settings.policies import NamedPolicy, named_policies

_PLAIN: Mapping[str, type[Policy]] = {policy.name: policy for policy in (Manual, CaptureWhenAuthorised)}


def open_policies(text: str) -> tuple[Policy, ...]:
    """The policies a text names, in the order in which they are asked; functions of one's own are imported.

    Raises:
        ValueError: it is not written as it should be, or a function cannot be imported; says what would be right.
    """
    return tuple(_opened(named) for named in named_policies(text))


def policies_of(settings: Settings) -> Mapping[str, tuple[Policy, ...]]:
    """The policies of each of our merchants, by merchant id.

    Raises:
        SettingsError: no merchant is set, or a function that one of them names cannot be imported.
    """
    policies = {}
    for merchant in settings.merchants.values():
        try:
            policies[merchant.id] = open_policies(merchant.policy)
        except ValueError as error:
            where = f"merchant {merchant.id}: policy" if settings.merchants_file else f"{PREFIX}POLICY"
            raise SettingsError(f"{where}: {error}") from error
    return policies


def asked(policies: Iterable[Policy], payment: PaymentFacts) -> tuple[list[tuple[str, Wanted]], datetime | None]:
    """Ask every policy; each sees the payment as it is, not as an earlier one's operations will leave it.

    Returns:
        What is wanted, in order, each with the name of the policy that wants it; and when to ask again if nothing
        else happens, None when any later look will do.
    """
    wanted, times = [], []
    for policy in policies:
        wanted += [(policy.name, one) for one in policy.wants(payment)]
        times.append(policy.asks_at(payment))
    return wanted, min((at for at in times if at is not None), default=None)


def _opened(named: NamedPolicy) -> Policy:
    if named.delay is not None:
        return CaptureAfter(named.delay)
    return _PLAIN[named.name]() if named.name in _PLAIN else FunctionPolicy(named.name)


__all__ = [
    "MovementKind",
    "PaymentFacts",
    "PaymentState",
    "Policy",
    "Wanted",
    "asked",
    "open_policies",
    "policies_of",
]
