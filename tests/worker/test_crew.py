"""The crew: bounded, and left in order."""

import threading
import time
from collections.abc import Iterator

import pytest

from worker import crew as crew_module
from worker.crew import WAITING_PER_THREAD, Crew
from worker.database import DatabaseUnavailable


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What blocked jobs wait for; the test's end frees them whatever happened."""
    event = threading.Event()
    yield event
    event.set()


def until(true: object, seconds: float = 5.0) -> bool:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(true())


def test_rows_are_worked_on_at_once(release: threading.Event) -> None:
    """As many at a time as there are threads: one slow call delays no other row."""
    crew, done = Crew(2), []
    crew.submit(lambda _: release.wait(10), 1)

    for key in range(2, 8):
        crew.submit(done.append, key)

    assert until(lambda: done == [2, 3, 4, 5, 6, 7])
    release.set()
    assert crew.drain(5)


def test_a_full_crew_makes_the_caller_wait(release: threading.Event) -> None:
    """That is the back-pressure on the queue: a few rows wait per thread, the next is not taken over."""
    crew, places = Crew(2), 2 * (1 + WAITING_PER_THREAD)
    for key in range(places):
        crew.submit(lambda _: release.wait(10), key)
    one_more = threading.Thread(target=crew.submit, args=(lambda _: None, places), daemon=True)

    one_more.start()

    one_more.join(0.2)
    assert one_more.is_alive()
    release.set()
    one_more.join(5)
    assert not one_more.is_alive()
    assert crew.drain(5)


@pytest.mark.parametrize("error", [RuntimeError("4111111111111111"), DatabaseUnavailable("no answer")])
def test_a_job_that_fails_gives_its_place_back(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """However many fail, the crew goes on; an unknown exception's text, which may be the platform's, is not logged."""
    crew, done = Crew(1), []

    def fail(_: int) -> None:
        raise error

    for key in range(20):
        crew.submit(fail, key)
    crew.submit(done.append, 20)

    assert crew.drain(5)
    assert done == [20]
    assert "4111111111111111" not in capsys.readouterr().out


def test_leaving_waits_for_the_rows_in_hand() -> None:
    """Everything taken over is finished when drained says so."""
    crew, done = Crew(2), []

    def slowly(key: int) -> None:
        time.sleep(0.05)
        done.append(key)

    for key in range(6):
        crew.submit(slowly, key)

    assert crew.drain(5)
    assert sorted(done) == [0, 1, 2, 3, 4, 5]


def test_leaving_does_not_wait_for_ever(release: threading.Event) -> None:
    """After its seconds it says that something was left, and rows not begun are left to the sweep."""
    crew, begun = Crew(1), []

    def hang(key: int) -> None:
        begun.append(key)
        release.wait(10)

    for key in range(3):
        crew.submit(hang, key)
    start = time.monotonic()

    assert not crew.drain(0.2)

    assert time.monotonic() - start < 2
    release.set()
    time.sleep(0.1)
    assert begun == [0]


def test_an_idle_crew_leaves_at_once() -> None:
    """Nothing in hand: nothing is waited for."""
    start = time.monotonic()

    assert Crew(16).drain(5)

    assert time.monotonic() - start < 1


def test_a_row_that_comes_after_the_crew_has_left_is_not_waited_with() -> None:
    """It stays due: the caller goes on, or the process could not end."""
    crew = Crew(1)
    crew.drain(1)
    late = threading.Thread(target=crew.submit, args=(lambda _: None, 1), daemon=True)

    late.start()

    late.join(2)
    assert not late.is_alive()


# Alone


def test_a_row_that_is_to_be_alone_has_nothing_beside_it(release: threading.Event) -> None:
    """It waits for the rows in hand, and those that come later wait for it."""
    crew, order = Crew(4), []

    def slowly(key: int) -> None:
        order.append(f"{key} begins")
        time.sleep(0.1)
        order.append(f"{key} ends")

    crew.submit(slowly, 1)
    crew.submit(slowly, 2, alone=True)
    crew.submit(slowly, 3)

    assert crew.drain(5)
    assert order == [f"{key} {what}" for key in (1, 2, 3) for what in ("begins", "ends")]


def test_one_that_hangs_does_not_keep_another_from_being_tried(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is still in hand after a while is beside it after all."""
    monkeypatch.setattr(crew_module, "ALONE_SECONDS", 0.1)
    crew, done = Crew(2), []
    crew.submit(lambda _: release.wait(10), 1)

    crew.submit(done.append, 2, alone=True)

    assert until(lambda: done == [2])
    release.set()
    assert crew.drain(5)


def test_one_that_hangs_alone_does_not_stop_all_others(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while others come in beside it."""
    monkeypatch.setattr(crew_module, "ALONE_SECONDS", 0.1)
    crew, done = Crew(2), []
    crew.submit(lambda _: release.wait(10), 1, alone=True)

    began = time.monotonic()
    crew.submit(done.append, 2)

    assert until(lambda: done == [2])
    assert time.monotonic() - began > 0.09
    release.set()
    assert crew.drain(5)


def test_several_callers_of_a_crew_keep_to_it_too() -> None:
    """In one process of several threads each message has a caller of its own: while a row is alone, none gets in."""
    crew, beside, running = Crew(8), [], []

    def note(key: int) -> None:
        running.append(key)
        time.sleep(0.005)
        if key < 0 and len(running) > 1:
            beside.append(list(running))
        running.remove(key)

    def call(first: int) -> None:
        for key in range(first, first + 40):
            crew.submit(note, -key if key % 10 == 0 else key, alone=key % 10 == 0)

    callers = [threading.Thread(target=call, args=(first,)) for first in (1, 101, 201, 301)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)

    assert crew.drain(5)
    assert beside == []
