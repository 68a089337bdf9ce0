"""The judgements on a history: each returns what speaks against a promise, or what was seen."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from tests.proof.history import Line

WEBHOOK, KILL, READ = "webhook", "kill", "read"


def acknowledged(lines: Iterable[Line]) -> set[str]:
    """The bodies, by their SHA-256, that were answered 2xx."""
    return {line.what for line in lines if line.call == WEBHOOK and line.type == "ok"}


def lost(lines: Iterable[Line], evaluated: Collection[str]) -> list[str]:
    """Acknowledged, and not stored or never evaluated."""
    return sorted(acknowledged(lines) - set(evaluated))


def stored_though_refused(lines: Iterable[Line], stored: Collection[str]) -> list[str]:
    """Stored, though every sending of it was answered with a certain no."""
    ends: dict[str, set[str]] = defaultdict(set)
    open_calls: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.call == WEBHOOK:
            open_calls[line.what] += 1 if line.type == "invoke" else -1
            ends[line.what].add(line.type)
    refused = {what for what, types in ends.items() if types == {"invoke", "fail"} and not open_calls[what]}
    return sorted(refused & set(stored))


def invented(lines: Iterable[Line], stored: Collection[str]) -> list[str]:
    """Stored, though nobody ever sent it."""
    return sorted(set(stored) - {line.what for line in lines if line.call == WEBHOOK})


def went_backwards(lines: Iterable[Line]) -> list[str]:
    """Records that were seen to fall back: hints answered, or money captured, became fewer from one look to a later."""
    best: dict[str, tuple[int, int]] = {}
    found = []
    for line in lines:
        if line.call != READ or line.type != "ok":
            continue
        for payment_id, applied, captured in line.told["payments"]:
            before = best.get(payment_id, (0, 0))
            if applied < before[0] or captured < before[1]:
                found.append(f"{payment_id}: {before} became {(applied, captured)}")
            best[payment_id] = (max(before[0], applied), max(before[1], captured))
    return found


def most_connections(lines: Iterable[Line]) -> int:
    """The most database connections that were seen at once."""
    return max((line.told["connections"] for line in lines if line.call == READ and line.type == "ok"), default=0)


def done(lines: Iterable[Line], call: str) -> dict[str, int]:
    """How often a call was done, by what it was about."""
    counts: dict[str, int] = defaultdict(int)
    for line in lines:
        counts[line.what] += line.call == call and line.type == "ok"
    return {what: count for what, count in counts.items() if count}


def recoveries(lines: Sequence[Line]) -> list[float]:
    """After each kill, the seconds from its being carried out to the next webhook that is acknowledged, in order."""
    answers = [line.at for line in lines if line.call == WEBHOOK and line.type == "ok"]
    found = []
    for line in lines:
        if line.call == KILL and line.type == "ok":
            later = bisect_right(answers, line.at)
            found.append(answers[later] - line.at if later < len(answers) else math.inf)
    return sorted(found)


def leaks(outputs: Iterable[Path | str], canaries: Iterable[str]) -> list[str]:
    """Secrets and card data that stand in an output: a log file, or a text."""
    texts = {
        (output.name if isinstance(output, Path) else "text"): (
            output.read_text(errors="replace") if isinstance(output, Path) else output
        )
        for output in outputs
    }
    return [f"{canary[:4]}… in {name}" for name, text in texts.items() for canary in canaries if canary in text]


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share (of 100) of them did not exceed; NaN of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(len(ranked) * share / 100) - 1)] if ranked else math.nan


def over_rate(moments: Iterable[tuple[float, int]], rate: float) -> float:
    """How many requests the fullest window of any length has beyond its rate: the burst that there was.

    Args:
        moments: when requests were made, in seconds, and how many.
        rate: as many a second.
    """
    made, lowest, most = 0, math.inf, 0.0
    for at, count in sorted(moments):
        lowest = min(lowest, made - rate * at)
        made += count
        most = max(most, made - rate * at - lowest)
    return most


def fullest(moments: Sequence[float], seconds: float) -> int:
    """The most of them that lie within so many seconds."""
    ranked = sorted(moments)
    return max((bisect_right(ranked, at + seconds) - number for number, at in enumerate(ranked)), default=0)
