"""Everything after the answer: reconciling payments with the platform, over Celery.

``celery -A worker worker`` finds ``app`` here. It is made when first asked for, so that importing ``worker.models``
reads no setting and opens nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    app: Celery


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module 'worker' has no attribute {name!r}")
    try:
        from worker import tasks  # noqa: PLC0415 - see above
    except AttributeError as error:
        # Passed on as it is, it would be told as "module 'worker' has no attribute 'celery'".
        raise RuntimeError("worker.tasks cannot be imported") from error
    return tasks.app
