"""Reads the JSON bodies of requests, and gathers all that is wrong in one before it is refused."""

import json
from collections.abc import Collection
from typing import Any

from sandbox.refusals import Refused, all_of, invalid_value, wrong_type

Json = dict[str, Any]

HIGHEST_AMOUNT = 999_999_999_999  # the platform's: twelve digits


def parsed(body: bytes, error_id: str = "SCHEMA_VALIDATION_FAILED") -> Json:
    """The object a body is; an empty one when there is none."""
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Refused(400, error_id, "50001111", "the body is not a JSON object")
    return content


class Form:
    """An object of a body. Values that cannot be are replaced by harmless ones; ``check`` then refuses the body."""

    def __init__(self, content: Json, path: str = "", problems: list[Refused] | None = None):
        self._content = content
        self._path = path
        self._problems = [] if problems is None else problems

    def check(self) -> None:
        if self._problems:
            raise all_of(self._problems)

    def wrong(self, name: str, expected: str) -> None:
        self._problems.append(invalid_value(self._path + name, expected))

    def has(self, name: str) -> bool:
        return self._content.get(name) is not None

    def only(self, known: Collection[str]) -> None:
        for name in sorted(self._content.keys() - set(known)):
            self.wrong(name, f"unknown; known are {', '.join(sorted(known)) or 'none'}")

    def part(self, name: str) -> "Form":
        """The object of this name; an empty one when there is none."""
        value = self._value(name, {})
        if not isinstance(value, dict):
            self._problems.append(wrong_type(self._path + name, "an object is expected"))
            value = {}
        return Form(value, f"{self._path}{name}.", self._problems)

    def text(self, name: str, longest: int) -> str | None:
        value = self._value(name, None)
        if value is not None and (not isinstance(value, str) or not 1 <= len(value) <= longest):
            self.wrong(name, f"text of 1 to {longest} characters is expected")
            return None
        return value

    def required_text(self, name: str, longest: int) -> str:
        if not self.has(name):
            self.wrong(name, "it is missing")
        return self.text(name, longest) or ""

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """One of the known; without it, the first."""
        value = self._value(name, known[0])
        if value not in known:
            self.wrong(name, f"one of {', '.join(known)} is expected")
        return str(value)

    def flag(self, name: str) -> bool:
        value = self._value(name, False)
        if not isinstance(value, bool):
            self.wrong(name, "true or false is expected")
        return value is True

    def number(self, name: str, highest: int = HIGHEST_AMOUNT) -> int:
        value = self._value(name, None)
        if type(value) is not int or not 1 <= value <= highest:
            self.wrong(name, f"a whole number from 1 to {highest} is expected")
            return 1
        return value

    def texts(self, name: str, most: int) -> tuple[str, ...]:
        value = self._value(name, [])
        if not isinstance(value, list) or len(value) > most or not all(isinstance(each, str) for each in value):
            self.wrong(name, f"a list of at most {most} texts is expected")
            return ()
        return tuple(value)

    def money(self, name: str) -> tuple[int, str]:
        money = self.part(name)
        currency = money._value("currencyCode", "")
        if not (isinstance(currency, str) and len(currency) == 3 and currency.isascii() and currency.isupper()):
            money.wrong("currencyCode", "three capital letters are expected")
            currency = "EUR"
        return money.number("amount"), currency

    def _value(self, name: str, default: Any) -> Any:
        value = self._content.get(name)
        return default if value is None else value
