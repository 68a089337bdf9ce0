"""The payment platform as we see it: `Gateway` is the interface, Worldline Direct its member."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.gateways.gateway import Gateway
    from worker.settings import Settings


def load() -> None:
    """Import what calls need, in a process whose children will make them: they share it, and wait for none of it."""
    import worker.gateways.worldline  # noqa: F401, PLC0415 - as in `open_gateways`


def open_gateways(settings: "Settings") -> Mapping[str, "Gateway"]:
    """A gateway for each of our merchants, by merchant id. Nothing is connected yet; to be called after fork.

    Raises:
        SettingsError: no merchant is set, or the SDK's properties file is not usable.
    """
    # The SDK's client costs 20 MiB and more than 0.1 s: only those who make calls pay for it.
    from worker.gateways.worldline import WorldlineGateway  # noqa: PLC0415

    return {merchant.id: WorldlineGateway(merchant, settings) for merchant in settings.merchants.values()}
