"""Frees the thread of a transaction whose deadline has passed.

A frozen PostgreSQL (SIGSTOP, a hung disk) trips neither ``statement_timeout`` nor the TCP time-outs of an established
connection; shutting the socket down makes the driver's wait end with an error.
"""

import contextlib
import os
import socket
import threading
import time


class Watch:
    """One transaction under its deadline; ``fd`` is its connection's socket once it has one."""

    def __init__(self, deadline: float):
        self.deadline = deadline
        self.fd: int | None = None
        self.barked = False


class Watchdog:
    """Shuts the socket of a transaction down when its deadline has passed, which frees the thread waiting on it."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._lock = threading.Condition()
        threading.Thread(target=self._run, name="database-watchdog", daemon=True).start()

    def add(self, watch: Watch) -> None:
        with self._lock:
            self._watches.add(watch)
            self._lock.notify()

    def remove(self, watch: Watch) -> None:
        with self._lock:  # held while barking too: no socket is shut down after its transaction ended
            self._watches.discard(watch)

    def _run(self) -> None:
        while True:
            time.sleep(0.1)
            with self._lock:
                self._lock.wait_for(lambda: self._watches)
                for watch in self._watches:
                    if watch.fd is not None and time.monotonic() > watch.deadline:
                        _shut_down(watch.fd)
                        watch.barked = True


def _shut_down(fd: int) -> None:
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as sock:
        sock.shutdown(socket.SHUT_RDWR)


_the_watchdog: Watchdog | None = None
_watchdog_lock = threading.Lock()


def watchdog() -> Watchdog:
    global _the_watchdog
    if _the_watchdog is None:
        with _watchdog_lock:
            _the_watchdog = _the_watchdog or Watchdog()
    return _the_watchdog


def _after_fork() -> None:
    global _the_watchdog, _watchdog_lock
    _the_watchdog, _watchdog_lock = None, threading.Lock()  # threads do not survive a fork


os.register_at_fork(after_in_child=_after_fork)
