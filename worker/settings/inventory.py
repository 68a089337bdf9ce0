"""Every setting in force and where its value came from; what is wrong with one does not hide the others."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from worker.settings import PREFIX, SECRETS, Settings, SettingsError, load_settings, read_secret_file
from worker.settings.sources import Given, given, of_environment
from worker.settings.values import told

#: What may be a secret and is not the address of something.
NEVER_SHOWN = ("webhook_keys", "encryption_keys", "api_secret")

#: Settings that must fit each other: when they do not, each of them is wrong.
TIMES = frozenset({"call_seconds", "claim_seconds", "lease_seconds"})

DEFAULT = "default"


@dataclass(frozen=True)
class Entry:
    """One setting."""

    name: str
    value: str  # as it may be shown: no secret, and nothing of a value that is wrong
    origin: str  # environment, .env, default; with the name of its _FILE where it came from one
    problem: str | None  # what is wrong with it


@dataclass(frozen=True)
class Inventory:
    """All settings."""

    entries: tuple[Entry, ...]
    problems: tuple[str, ...]  # what stops a process at its start
    settings: Settings  # with its default in place of each that is wrong
    wrong: frozenset[str]  # fields

    def count(self, origin: str) -> int:
        """How many settings came from there."""
        return sum(entry.origin.startswith(origin) for entry in self.entries)


class _Parts(Settings):
    """Settings of what was picked, and of nothing else."""

    model_config = SettingsConfigDict(env_file=None)  # it would be opened all the same

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: Any, **__: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def take_inventory() -> Inventory:
    """Read the environment and ``.env`` as a process does at its start, and go on where it would stop."""
    named = _named()
    problems = _problems_of_start()
    values: dict[str, Any] = {}
    wrong: set[str] = set()
    for field in Settings.model_fields:
        try:
            value = _value(field, named)
        except (SettingsError, ValueError) as error:
            wrong.add(field)
            problems += [str(error)] if isinstance(error, SettingsError) else []
        else:
            values |= {} if value is None else {field: value}
    settings = None
    while settings is None:
        try:
            settings = _Parts(**{field: value for field, value in values.items() if field not in wrong})
        except ValidationError as error:
            problems += told(error, PREFIX).splitlines()
            wrong |= {str(one["loc"][0]) for one in error.errors(include_input=False) if one["loc"]} or TIMES
    told_once = tuple(dict.fromkeys(problems))
    entries = [_entry(field, named, settings, told_once if field in wrong else ()) for field in Settings.model_fields]
    return Inventory((*entries, *_strangers(named, told_once)), told_once, settings, frozenset(wrong))


def _named() -> dict[str, Given]:
    try:
        return given()
    except UnicodeDecodeError:  # one of the problems of a start
        return of_environment()


def _problems_of_start() -> list[str]:
    try:
        load_settings()
    except SettingsError as error:
        return str(error).splitlines()
    return []


def _value(field: str, named: Mapping[str, Given]) -> Any:
    """What was given for a setting, as pydantic is to read it; None for nothing."""
    name = f"{PREFIX}{field.upper()}"
    if field in SECRETS and f"{name}_FILE" in named:
        if name in named:
            raise SettingsError(f"{name} and {name}_FILE are both set; keep one of them")
        return read_secret_file(f"{name}_FILE", named[f"{name}_FILE"].value)
    if name not in named:
        return None
    text = named[name].value
    return json.loads(text) if isinstance(Settings.model_fields[field].default, (tuple, dict)) else text


def _entry(field: str, named: Mapping[str, Given], settings: Settings, problems: tuple[str, ...]) -> Entry:
    name = f"{PREFIX}{field.upper()}"
    origin: str = named[name].source if name in named else DEFAULT
    if f"{name}_FILE" in named:
        origin = f"{named[f'{name}_FILE'].source}, {name}_FILE"
    if not problems:
        return Entry(name, _shown(field, getattr(settings, field)), origin, None)
    own = [problem for problem in problems if problem.startswith((f"{name}:", f"{name} ", f"{name}_FILE:"))]
    others = [problem for problem in problems if not problem.startswith(PREFIX)]
    return Entry(name, "not usable", origin, "; ".join(own or others) or "it cannot be read")


def _strangers(named: Mapping[str, Given], problems: tuple[str, ...]) -> list[Entry]:
    """Names that are no setting; their values may be secrets that were meant for one."""
    return [
        Entry(name, "not usable", named[name].source, problem)
        for problem in problems
        for name, is_none, _ in [problem.partition(" is not a setting")]
        if is_none and name in named
    ]


def _shown(field: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        return "set" if field in NEVER_SHOWN else address(value.get_secret_value())
    return json.dumps(value) if isinstance(value, (tuple, dict, bool)) else str(value)


def address(url: str) -> str:
    """Where a URL leads, without who goes there: no user, no password, no options. Of one that is not written as it
    should be, in which a part of the password might pass for another part, the scheme only."""
    scheme, separator, rest = url.partition("://")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        return f"{scheme}://…"
    if not separator or "@" in rest.rpartition("@")[0] or set("@;,") & set(parts.path + parts.query + parts.fragment):
        return f"{scheme}://…" if separator else "set"
    return f"{scheme}://{host}{port}{parts.path}"
