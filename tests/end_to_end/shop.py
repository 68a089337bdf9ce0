"""Another system, which knows of payhook no more than the names of its tasks and where the broker is."""

from typing import Any

from celery import Celery


class Shop:
    """Asks for money to be moved, as any Celery client does.

    Args:
        broker_url: where it asks.
    """

    def __init__(self, broker_url: str):
        self._app = Celery(broker=broker_url)
        self._app.conf.task_ignore_result = True

    def ask(self, kind: str, payment_id: str, request_id: str, **more: Any) -> None:
        """Ask for a capture, refund or cancel; `more` are its other arguments."""
        asked = {"payment_id": payment_id, "request_id": request_id, "source": "shop", **more}
        self._app.send_task(f"payhook.{kind}", kwargs=asked, queue="payhook.operations")
