"""Counts of several processes as one: numbers in memory-mapped files, a slot of them for each process that lives."""

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from itertools import count
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import values as prometheus_values
from prometheus_client.multiprocess import MultiProcessCollector

log = structlog.get_logger("payhook.metrics")

#: Where prometheus_client looks for the folder.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

FOLDER_PREFIX = "payhook-metrics-"

#: A file in memory: a slow disk must not hold up whoever counts.
MEMORY = "/dev/shm"  # noqa: S108 - what is made there is a folder of a random name, for its owner only

#: The room of each file is taken when it is made: writing to a mapped file that the disk has no room for is SIGBUS. One
#: that outgrows it is doubled; that takes hundreds of merchants.
FILE_BYTES = 256 * 1024
FILES = ("counter", "histogram")  # the kinds there are; whatever is to be known now comes from the database

# Held over every fork. prometheus_client has locks of its own inside: one that another thread held at that moment would
# stay locked in the child for ever, so nothing is counted while this process forks.
_lock = threading.RLock()


class Value:
    """One number of a metric, as prometheus_client has them: this process's own, until `share` is called."""

    def __init__(self, *described: Any, **more: Any):
        self._described = described, more
        with _lock:
            _values.append(self)
            self.settle()

    def settle(self) -> None:
        """Find its place, where it goes on with what is there."""
        described, more = self._described
        try:
            self._place: Any = _kind(*described, **more)
        except Exception as error:
            self._give_up(error)

    def inc(self, amount: float) -> None:
        with _lock:
            try:
                self._place.inc(amount)
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """The folder is gone, or the disk is full: no count is worth failing what was counted."""
        log.warning("metrics.not_shared", error=type(error).__name__)
        described, more = self._described
        self._place = _alone(*described, **more)

    def get(self) -> float:
        with _lock:
            return float(self._place.get())

    def get_exemplar(self) -> None:
        """Files have no room for one."""


_values: list[Value] = []
_alone: Any = prometheus_values.MutexValue
_kind: Any = _alone

#: This process's slot, and the lock that says that it lives.
_slot: tuple[int, int] | None = None
_folder: Path | None = None


def share() -> None:
    """Count together with every process that is forked from here on. To be called once, before the first fork.

    The files lie in a folder that goes when this process ends; what killed ones have left behind goes now. Where there
    is no place for it, each process counts for itself.
    """
    global _kind, _folder
    with _lock:
        try:
            _folder = _new_folder()
        except OSError as error:
            log.warning("metrics.not_shared", error=error.strerror)
            return
        atexit.register(_remove, _folder, os.getpid())
        os.environ[FOLDER_VARIABLE] = str(_folder)
        together: Any = prometheus_values.MultiProcessValue
        _kind = together(process_identifier=_slot_number)
        for value in _values:
            value.settle()


def shared() -> MultiProcessCollector | None:
    """What all processes have counted, None where each counts for itself."""
    collector: Any = MultiProcessCollector
    return None if _folder is None else collector(None, str(_folder))


def _new_folder() -> Path:
    global _slot
    within = Path(MEMORY if os.access(MEMORY, os.W_OK) else tempfile.gettempdir())
    _clear_up(within)
    # Under another name until it is locked: who clears up at the same moment does not see it.
    made = Path(tempfile.mkdtemp(prefix=f".{FOLDER_PREFIX}", dir=within))
    _slot = _take(made)
    return made.rename(within / made.name.removeprefix("."))


def _slot_number() -> int:
    """The slot of this process: not its id, or every process that ever lived would leave its files behind."""
    global _slot
    _slot = _slot or _take(Path(os.environ[FOLDER_VARIABLE]))
    return _slot[0]


def _take(folder: Path) -> tuple[int, int]:
    """The first slot that no living process holds; its predecessor's counts go on in it."""
    for number in count():
        lock = os.open(folder / f"{number}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        for kind in FILES:
            _make_room(folder / f"{kind}_{number}.db")
        return number, lock
    raise AssertionError  # numbers do not end


def _make_room(file: Path) -> None:
    opened = os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(opened, 0, FILE_BYTES)
    finally:
        os.close(opened)


def _clear_up(within: Path) -> None:
    for left in within.glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, in use, or cleared up by another at this moment
            lock = os.open(left / "0.lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(lock)


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child that ends comes by here too
        shutil.rmtree(folder, ignore_errors=True)


def _after_fork() -> None:
    """A child takes a slot when it first counts; the parent's lock, held on here, would outlive its owner."""
    global _slot
    if _slot is not None:
        os.close(_slot[1])
        _slot = None
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)
