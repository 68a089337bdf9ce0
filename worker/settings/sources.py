"""Where each setting of this process came from; never what it says."""

import os
from collections.abc import Iterable
from typing import Literal

import structlog
from dotenv import dotenv_values

from worker import tracing
from worker.settings.values import PREFIX

log = structlog.get_logger("payhook.settings")

ENV_FILE = ".env"

Source = Literal["environment", ".env"]


def sources() -> dict[str, Source]:
    """Every name with our prefix that is given, and by what: the environment goes before ``.env``."""
    of_file: dict[str, Source] = dict.fromkeys(_ours(dotenv_values(ENV_FILE)), ".env")
    of_environment: dict[str, Source] = dict.fromkeys(_ours(os.environ), "environment")
    return dict(sorted({**of_file, **of_environment}.items()))


def tell_settings() -> None:
    """What a process was started with, for whoever asks later what was changed when."""
    log.info("settings.read", security=True, given=sources())
    if tracing.is_wanted() and not tracing.is_on:
        log.warning("tracing.missing", told="install payhook[tracing]")


def _ours(names: Iterable[str]) -> list[str]:
    return [name.upper() for name in names if name.upper().startswith(PREFIX)]
