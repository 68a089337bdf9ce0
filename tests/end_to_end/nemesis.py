"""Kills processes and servers by a seeded plan, and starts again what does not start by itself."""

import random
import threading
import time
from collections.abc import Callable, Mapping

from tests.end_to_end.house import House
from tests.proof.checks import KILL
from tests.proof.history import History
from tests.servers.server import Server


class Nemesis(threading.Thread):
    """One kill after the other, evenly over the time.

    Args:
        house: whose processes ``ingress`` and ``worker`` in the plan are.
        servers: what else the plan names.
        plan: how often each is killed; the order is drawn.
        seconds: how long it takes.
        seed: what is drawn from.
        history: where each kill is noted.
    """

    def __init__(
        self,
        house: House,
        servers: Mapping[str, Server],
        plan: Mapping[str, int],
        *,
        seconds: float,
        seed: int,
        history: History,
    ):
        super().__init__(name="nemesis", daemon=True)
        self._house, self._servers, self._seconds, self._history = house, servers, seconds, history
        self._chance = random.Random(seed)
        self._plan = [victim for victim, times in plan.items() for _ in range(times)]
        self._chance.shuffle(self._plan)
        self.last_restart = 0.0
        self.failure: BaseException | None = None

    def run(self) -> None:
        began, pause = time.monotonic(), self._seconds / len(self._plan)
        try:
            for number, victim in enumerate(self._plan):
                time.sleep(max(0.0, began + pause * number - time.monotonic()))
                self._strike(victim)
                self.last_restart = time.time()
        except BaseException as error:
            self.failure = error

    def _strike(self, victim: str) -> None:
        if victim in self._servers:
            server = self._servers[victim]
            self._kill(victim, server.kill)
            server.restart()
            return
        process = self._house.processes[self._chance.choice(self._named(victim))]
        if self._chance.random() < 0.5 and process.children():
            child = self._chance.randrange(len(process.children()))
            self._kill(victim, lambda: process.kill_one_child(child))
        else:
            self._kill(victim, process.kill)
            process.restart()

    def _named(self, victim: str) -> list[str]:
        begins = {"ingress": "serve", "worker": "work"}[victim]
        return [name for name in self._house.processes if name.startswith(begins)]

    def _kill(self, victim: str, kill: Callable[[], object]) -> None:
        with self._history.call("nemesis", KILL, victim):
            kill()
