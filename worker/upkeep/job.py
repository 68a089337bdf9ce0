"""What a periodic job is given, and what one run of it comes to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.database import Database
from worker.gateways.gateway import Gateway
from worker.settings import Settings
from worker.traffic import Traffic


@dataclass(frozen=True)
class Tools:
    """What a job works with."""

    database: Database
    gateways: Mapping[str, Gateway]
    settings: Settings
    traffic: Traffic


@dataclass(frozen=True)
class Done:
    """What one run of a job came to."""

    seconds: float  # until its next run: little while there is more to do, for a run is short
    counts: Mapping[str, int] = field(default_factory=dict)  # for the log
    state: Mapping[str, Any] = field(default_factory=dict)  # kept for the next run, as JSON
    payment_keys: tuple[int, ...] = ()  # to be rung for


#: A job: one short run, given what its last run has left (nothing at first). May be run twice.
Job = Callable[[Tools, Mapping[str, Any]], Done]
