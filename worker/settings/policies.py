"""How ``POLICY`` is written. Whether a function of one's own is there is found out when it is opened, not here."""

import re
from dataclasses import dataclass
from datetime import timedelta

#: Policies that are a name and nothing else.
PLAIN = ("manual", "capture-when-authorised")

#: The one with a delay behind its name.
CAPTURE_AFTER = "capture-after"

#: With ``policy:`` before it, a name is the source of an operation, for which there are 64 characters.
LONGEST_NAME = 57

RIGHT = (
    "it is manual, capture-when-authorised, capture-after:DELAY (90m, 36h or 2d, say) or package.module:function; "
    "or several of them with commas between"
)

_DELAY = re.compile(r"([1-9][0-9]{0,5})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class NamedPolicy:
    """One policy as it is written."""

    name: str  # as in the source of its operations; of a function, its dotted path
    delay: timedelta | None = None  # of `capture-after`


def named_policies(text: str) -> tuple[NamedPolicy, ...]:
    """The policies a text names, in its order.

    Raises:
        ValueError: it is not written as it should be; says what would be right, without what was given.
    """
    named = tuple(_named(part.strip()) for part in text.split(","))
    if len({policy.name for policy in named}) < len(named):
        raise ValueError("it names a policy twice: their operations could not be told apart")
    return named


def _named(text: str) -> NamedPolicy:
    if text in PLAIN:
        return NamedPolicy(text)
    before, _, after = text.partition(":")
    if before == CAPTURE_AFTER:
        return NamedPolicy(CAPTURE_AFTER, _delay(after))
    if not all(part.isidentifier() for part in [*before.split("."), after]):
        raise ValueError(RIGHT)
    if len(text) > LONGEST_NAME:
        raise ValueError(f"package.module:function has {LONGEST_NAME} characters at most: operations are kept with it")
    return NamedPolicy(text)


def _delay(text: str) -> timedelta:
    written = _DELAY.fullmatch(text)
    if written is None:
        raise ValueError("capture-after needs its delay, a whole number and s, m, h or d; for example capture-after:2d")
    return timedelta(**{_UNITS[written[2]]: int(written[1])})
