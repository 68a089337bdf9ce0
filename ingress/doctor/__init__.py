"""What an installation says of itself when somebody is woken by it: a line for each part, and what mends it.

lines.py         a line, its states, and how all are told side by side within seconds
installation.py  what is examined, opened part by part
machine.py       settings, user, room on the disk
storage.py       the database
workers.py       broker, workers, sweep
platform.py      the platform, for each merchant
webhooks.py      keys, and whether webhooks come
work.py          what waits, and what needs a person
"""

from ingress.doctor import machine, platform, storage, webhooks, work, workers
from ingress.doctor.installation import Installation
from ingress.doctor.lines import Check, Finding, State, tell
from worker.settings.inventory import Inventory

#: Every line there is, in the groups and the order they are shown in.
GROUPS = {
    "this machine": ("settings", "user", "disk"),
    "database": ("database", "revision", "integrity"),
    "workers": ("broker", "workers", "queues", "sweep"),
    "platform": ("credentials", "clock", "circuit", "budget"),
    "webhooks": ("key store", "webhook key", "webhooks"),
    "waiting": ("events", "payments", "operations", "jobs"),
    "for a person": ("unknown outcome", "review", "anomalies", "expiring", "parked", "quarantined"),
}

FAMILIES = (machine, storage, workers, platform, webhooks, work)


def examine(inventory: Inventory) -> list[Check]:
    """Tell every line of the installation that these settings describe; it takes seconds whatever is down.

    Args:
        inventory: the settings in force.
    """
    installation = Installation(inventory)
    try:
        return tell([line for family in FAMILIES for line in family.lines(installation)])
    finally:
        installation.close()


__all__ = ["GROUPS", "Check", "Finding", "State", "examine"]
