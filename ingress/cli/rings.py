"""A command's ring for the rows it has made due."""

from collections.abc import Iterable

from worker.celery_app import make_app
from worker.doorbell import Doorbell
from worker.settings import Settings

#: So long a command waits for the broker: the rows are due, and the sweep finds them without a ring.
RING_SECONDS = 2.0


def ring(chosen: Settings, task: str, keys: Iterable[int]) -> None:
    """Ring for rows; without, they are due, and the sweep finds them within seconds.

    Args:
        chosen: which broker. Nothing from outside reaches the embedded one.
        task: one of the doorbell's names.
        keys: of the rows.
    """
    if chosen.embedded_broker:
        return
    doorbell = Doorbell(make_app(chosen))
    doorbell.ring(task, keys)
    doorbell.flush(RING_SECONDS)
