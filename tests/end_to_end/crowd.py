"""Many processes that ask payhook for money in the same moment, and wait for its answers.

``python -m tests.end_to_end.crowd FOLDER NUMBER`` is one of them; `Crowd` starts them and lets them go at once.
"""

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from celery import Celery

from tests.end_to_end.house import House
from tests.servers.process_tree import wait_for

ANSWER_SECONDS = 90.0


class Crowd:
    """So many clients, each a process of its own with a connection that is open.

    Args:
        house: whom they ask; its workers have a result backend.
        folder: where they find what to ask, and leave what they are answered.
        clients: how many.
    """

    def __init__(self, house: House, folder: Path, clients: int):
        self._folder, self._rounds = folder, itertools.count()
        command = [sys.executable, "-m", "tests.end_to_end.crowd", str(folder)]
        env = {"BROKER_URL": house.broker_url}
        self._clients = [house.run(f"client-{one}", *command, str(one), env=env) for one in range(clients)]
        for client in self._clients:
            client.wait_until("ready")

    def ask(self, task: str, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Share these requests out, send all of them at once, and return every answer.

        Args:
            task: the task's name.
            requests: its arguments, each time.
        """
        turn, count = next(self._rounds), len(self._clients)
        _put(self._folder / f"asked-{turn}", {"task": task, "requests": [requests[one::count] for one in range(count)]})
        answers = [self._folder / f"answers-{turn}-{one}" for one in range(count)]
        answered = wait_for(lambda: all(answer.exists() for answer in answers), 2 * ANSWER_SECONDS)
        assert answered, [client.tail() for client in self._clients if not client.is_running]
        return [answer for file in answers for answer in json.loads(file.read_text())]


def _put(file: Path, content: Any) -> None:
    """Write a file that is whole as soon as it is there."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content))
    unfinished.rename(file)


def _main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("number", type=int)
    given = arguments.parse_args()
    app = Celery(broker=os.environ["BROKER_URL"], backend="rpc://")
    with app.connection_for_write() as connection:
        connection.connect()
        print("ready", flush=True)
        for turn in itertools.count():
            asked = given.folder / f"asked-{turn}"
            while not asked.exists():
                time.sleep(0.005)
            order = json.loads(asked.read_text())
            sent = [
                app.send_task(order["task"], kwargs=request, queue="payhook.operations", connection=connection)
                for request in order["requests"][given.number]
            ]
            answers = [one.get(timeout=ANSWER_SECONDS) for one in sent]
            _put(given.folder / f"answers-{turn}-{given.number}", answers)


if __name__ == "__main__":
    _main()
