"""The last look at every line: what could be a card's number is masked, whoever said it and wherever it stands."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Record = Mapping[str, Any]

#: A card's number has 13 to 19 digits, written in one or with a space or dash between any two.
SHORTEST, LONGEST = 13, 19
_SUSPECT = re.compile(rf"[0-9](?:[ -]?[0-9]){{{SHORTEST - 1},}}")
_GROUP = re.compile(r"[0-9]+")

#: The platform's ids of payments and operations, which are digits as a card's number is.
_PLATFORM_ID = re.compile(r"[0-9]{1,20}(_[0-9]{1,20})?", re.ASCII)
_OF_THE_PLATFORM = frozenset({"payment_id", "platform_operation_id"})
#: Any other id: ASCII without spaces, and more than digits.
_OTHER_ID = re.compile(r"(?=[^A-Za-z]*[A-Za-z])[!-~]{1,128}", re.ASCII)


class Masked:
    """Renders a record without card numbers.

    Args:
        render: the renderer, of structlog's kind.
    """

    def __init__(self, render: Callable[[Any, str, dict[str, Any]], Any]):
        self._render = render

    def __call__(self, logger: Any, level: str, record: Record) -> str:
        line = str(self._render(logger, level, dict(record)))
        # Nearly every line is done here: the record is only walked through when something in its line looks like one.
        if not _SUSPECT.search(line):
            return line
        return str(self._render(logger, level, {_masked(name): _value(name, value) for name, value in record.items()}))


def _value(name: str, value: Any) -> Any:
    # One payment's id in ten passes a card's checksum by chance. Masked, a payment could not be found in the log by
    # its id, which is what the log is for; a card's number never comes under these names.
    if _is_id(name, value):
        return value
    if isinstance(value, bool | None):
        return value
    if isinstance(value, int | float):
        masked = _masked(str(value))
        return value if masked == str(value) else masked
    if isinstance(value, Mapping):
        return {_masked(str(key)): _value(str(key), part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(name, part) for part in value]
    return _masked(value if isinstance(value, str) else repr(value))


def _is_id(name: str, value: Any) -> bool:
    if name in _OF_THE_PLATFORM:
        return isinstance(value, str) and _PLATFORM_ID.fullmatch(value) is not None
    if name.endswith(("_key", "_keys")) and type(value) is int:
        return True
    if name.endswith(("_key", "_id")):
        return isinstance(value, str) and _OTHER_ID.fullmatch(value) is not None
    return False


def _masked(text: str) -> str:
    return _SUSPECT.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    """The digits found, with each card's number among them masked to its first six and last four."""
    text, groups = found[0], list(_GROUP.finditer(found[0]))
    masked, done = "", 0
    for first, start in enumerate(groups):
        if start.start() < done:
            continue
        for end in _ends(groups[first:]):
            digits = "".join(_GROUP.findall(text[start.start() : end]))
            if _passes(digits):
                masked += text[done : start.start()] + digits[:6] + "*" * (len(digits) - 10) + digits[-4:]
                done = end
                break
    return masked + text[done:]


def _ends(groups: list[re.Match[str]]) -> Iterator[int]:
    """Where a number that begins with the first group may end: what stands beside it may be digits too."""
    count = 0
    for group in groups:
        count += len(group[0])
        if count > LONGEST:
            return
        if count >= SHORTEST:
            yield group.end()


def _passes(digits: str) -> bool:
    """The checksum of card numbers (Luhn)."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[-1::-2])) % 10 == 0
