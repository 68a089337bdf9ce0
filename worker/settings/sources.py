"""What this process is given of our settings, and by what."""

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

import structlog
from dotenv import dotenv_values

from worker import tracing
from worker.settings.values import PREFIX

log = structlog.get_logger("payhook.settings")

ENV_FILE = ".env"

Source = Literal["environment", ".env"]


class Given(NamedTuple):
    """A setting as somebody wrote it down."""

    value: str
    source: Source


def given() -> dict[str, Given]:
    """Every name with our prefix that is given: the environment's before those of ``.env``.

    Raises:
        UnicodeDecodeError: ``.env`` is not text.
    """
    return _ours(dotenv_values(ENV_FILE), ".env") | of_environment()


def of_environment() -> dict[str, Given]:
    """Those that the environment gives."""
    return _ours(os.environ, "environment")


def tell_settings() -> None:
    """What a process was started with, for whoever asks later what was changed when; never what a setting says."""
    log.info("settings.read", security=True, given={name: one.source for name, one in sorted(given().items())})
    if tracing.is_wanted() and not tracing.is_on:
        log.warning("tracing.missing", told="install payhook[tracing]")


def _ours(values: Mapping[str, str | None], source: Source) -> dict[str, Given]:
    return {
        name.upper(): Given(value or "", source) for name, value in values.items() if name.upper().startswith(PREFIX)
    }
