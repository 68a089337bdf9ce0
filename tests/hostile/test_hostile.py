"""Whatever strangers send, to either door: no fault shows, no log line is theirs, and genuine events are taken."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ingress.signatures import REASONS
from tests.hostile import headers, transport
from tests.hostile.bodies import LIMIT, bodies
from tests.hostile.doors import (
    KEY_ID,
    SECRET,
    TRACES,
    Door,
    forged_lines,
    genuine,
    given_away,
    request,
    statuses,
    takes_events,
    wait_a_moment,
)
from tests.ingress.conftest import event_body, signature_of

BODY = b"a body of the hostile corpus"
SIGNATURE = signature_of(BODY, SECRET)

#: What a stranger may be answered: refused, or asked to come again.
REFUSED = {400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 421, 426, 431, 503}

#: gunicorn and waitress say 501 and 505 of what they do not speak, before any of it reaches us.
NOT_SPOKEN = {501, 505}


@pytest.fixture(scope="module", params=["up", "serve", pytest.param("nginx", marks=pytest.mark.servers)])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """Each of them in turn, for all tests here."""
    with Door(request.param, tmp_path_factory.mktemp(request.param)).opened() as door:
        yield door


@pytest.fixture(autouse=True)
def unharmed(door: Door) -> Iterator[None]:
    """After whatever was done to it: the same processes take events, no line of the log is forged, nothing leaked."""
    before = door.process.pids()
    yield
    assert takes_events(door)
    wait_a_moment()
    assert forged_lines(door) == []
    assert given_away(door.said().encode()) == []
    assert "Traceback" not in door.said()
    assert "request.broke" not in door.said()
    assert door.process.pids() == before


def sent_by_many(door: Door, cases: dict[str, bytes]) -> dict[str, bytes]:
    """What was answered to each."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(cases, pool.map(door.send, cases.values()), strict=True))


def assert_refused(answers: dict[str, bytes], allowed: set[int]) -> None:
    odd = {what: answer[:300] for what, answer in answers.items() if not set(statuses(answer)) <= allowed}
    assert odd == {}
    shown = {what: answer[-300:] for what, answer in answers.items() if any(trace in answer for trace in TRACES)}
    assert shown == {}
    assert [what for what, answer in answers.items() if SECRET.encode() in answer] == []


def test_any_body_that_is_genuine_is_answered_204(door: Door) -> None:
    """Some three hundred that nobody should send, validly signed: each is stored, none breaks what comes after it."""
    corpus = bodies()
    answers = sent_by_many(door, {what: genuine(body, close=True) for what, body in corpus.items()})

    assert len(corpus) > 300
    assert max(map(len, corpus.values())) <= LIMIT
    assert {what: answer[:200] for what, answer in answers.items() if statuses(answer) != [204]} == {}
    assert [what for what, body in corpus.items() if door.stored(body) != 1] == []


def test_headers_that_prove_nothing_are_401(door: Door) -> None:
    """All of them the same answer, but for its date: not even what was wrong is told. Nothing is stored."""
    cases = headers.forgeries(KEY_ID, SIGNATURE)
    answers = sent_by_many(door, {what: request(BODY, *lines, close=True) for what, lines in cases.items()})

    assert_refused(answers, {400, 401})
    told = {without_date(answer) for answer in answers.values() if statuses(answer) == [401]}
    assert len(told) == 1
    assert {what for what, answer in answers.items() if statuses(answer) != [401]} <= NO_HEADERS
    assert door.stored(BODY) == 0


def without_date(answer: bytes) -> frozenset[bytes]:
    """What is in an answer, whatever the order of its headers, and the case of words that nobody reads."""
    return frozenset(line for line in answer.lower().split(b"\r\n") if not line.startswith(b"date:"))


#: Refused before they are headers at all, by a server that is stricter than ours.
NO_HEADERS = {"signature: escape sequences", "key id: escape sequences"}


def test_headers_that_are_none_are_refused(door: Door) -> None:
    """By the server or by us, once; the signature behind them is not found genuine by accident."""
    cases = headers.malformed(KEY_ID, SIGNATURE)
    answers = sent_by_many(door, {what: request(BODY, *lines, close=True) for what, lines in cases.items()})

    assert_refused(answers, REFUSED)
    assert {what: statuses(answer) for what, answer in answers.items() if len(statuses(answer)) > 1} == {}
    assert door.stored(BODY) == 0


def test_what_headers_claim_changes_nothing(door: Door) -> None:
    """Neither sender nor path nor length is another for it: a genuine event is stored, and a forged one is not."""
    sent = {what: event_body() for what in headers.CLAIMS}
    genuine_ones = {what: genuine(body, *headers.CLAIMS[what], close=True) for what, body in sent.items()}
    forged = {what: request(BODY, *lines, close=True) for what, lines in headers.CLAIMS.items()}

    answers, refusals = sent_by_many(door, genuine_ones), sent_by_many(door, forged)

    assert {what: answer[:200] for what, answer in answers.items() if statuses(answer) != [204]} == {}
    assert {what: door.stored(body) for what, body in sent.items()} == dict.fromkeys(sent, 1)
    assert {what: answer[:200] for what, answer in refusals.items() if statuses(answer) != [401]} == {}


def test_what_can_be_read_in_two_ways_is_one_request_at_most(door: Door) -> None:
    """Two lengths, a length and chunks, bare line feeds, folded lines: answered once, and what hides in it is not
    taken, though its signature would be right."""
    hidden = event_body()
    answers = sent_by_many(door, transport.requests(genuine(hidden)))

    assert_refused(answers, REFUSED | NOT_SPOKEN)
    assert {what: answer[:300] for what, answer in answers.items() if len(statuses(answer)) > 1} == {}
    assert door.stored(hidden) == 0


def test_every_request_of_a_pipeline_is_answered_once_and_in_order(door: Door) -> None:
    """Two hundred sent without waiting, every third a forgery. waitress hangs up after each 204: what it did not
    answer, it did not store."""
    sent = [event_body() for _ in range(200)]
    parts = [genuine(body) if number % 3 else request(body) for number, body in enumerate(sent)]

    answers = statuses(door.send(b"".join([*parts[:-1], genuine(sent[-1], close=True)]), 15))

    expected = [204 if number % 3 else 401 for number in range(200)]
    assert answers == (expected[:2] if door.name == "up" else expected)
    assert [door.stored(body) for body in sent] == [int(answer == 204) for answer in answers] + [0] * (
        200 - len(answers)
    )


@pytest.mark.parametrize("length", [LIMIT + 1, 4 * LIMIT])
def test_a_chunked_body_over_the_limit_is_413_and_ends_the_connection(door: Door, length: int) -> None:
    """It is never cut short in silence, and its rest is not taken for requests."""
    hidden = genuine(event_body())
    body = (hidden * (length // len(hidden) + 1))[:length]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in in_parts(body, 10_000)) + b"0\r\n\r\n"
    lines = [b"X-GCS-KeyId: " + KEY_ID.encode(), b"X-GCS-Signature: " + signature_of(body, SECRET).encode()]
    answer = door.send(transport.head(b"Transfer-Encoding: chunked", *lines) + chunks, 2)

    assert statuses(answer) == [413]


def in_parts(body: bytes, size: int) -> list[bytes]:
    return [body[begin : begin + size] for begin in range(0, len(body), size)]


def test_a_client_that_asks_first_is_told_to_go_on(door: Door) -> None:
    """`Expect: 100-continue`, which some send before a body."""
    body = event_body()
    whole = genuine(body, close=True)
    answer = door.send(whole.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"), 5)

    assert statuses(answer) == [204]


def test_clients_that_leave_in_the_middle_harm_nobody(door: Door) -> None:
    """At any byte, in good order or by a reset; half an event is not stored."""
    body = event_body()
    whole = genuine(body)
    for end in range(1, len(whole) - 1, 37):
        with door.connect() as line:
            line.sendall(whole[:end])
            if end % 2:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert door.stored(body) == 0


def forgeries_told(door: Door) -> int:
    return door.process.output().count("webhook.forged")


def test_a_flood_of_forgeries_neither_delays_nor_refuses_what_is_genuine(door: Door) -> None:
    """From the same address at the same time: every genuine event gets its 204; the flood gets 401 and some lines."""
    told_before, until = forgeries_told(door), time.monotonic() + 2.0
    lines = [[b"X-GCS-KeyId: k%d" % number, b"X-GCS-Signature: " + SIGNATURE.encode()] for number in range(1000)]
    forged: list[int] = []

    def flood(number: int) -> None:
        while time.monotonic() < until:
            with door.connect() as line:
                for turn in range(50):
                    line.sendall(request(BODY, *(lines[(number + turn) % 1000] if turn % 2 else [])))
                    answer = line.recv(65536)
                    if not answer:
                        break
                    forged.extend(statuses(answer))

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    answers = []
    while time.monotonic() < until:
        answers.append(takes_events(door))
        time.sleep(0.02)
    for thread in threads:
        thread.join()

    assert len(forged) > 100
    assert set(forged) == {401}
    assert len(answers) > 5
    assert all(answers)
    assert forgeries_told(door) - told_before <= 2 * len(REASONS)


def test_what_has_no_signature_is_soon_answered_without_us(door: Door) -> None:
    """Beyond some a second, by nginx: the same 401, while the ingress has not even heard of it."""
    if door.nginx is None:
        pytest.skip("there is nobody in front")
    unsigned = request(BODY, close=True)
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(door.send, [unsigned] * 60))
        door.process.freeze()
        try:
            without_us = list(pool.map(door.send, [unsigned] * 40))
        finally:
            door.process.thaw()

    assert {tuple(statuses(answer)) for answer in answers} == {(401,)}
    assert len({without_date(answer) for answer in answers}) == 1
    assert [statuses(answer) for answer in without_us].count([401]) >= 15
    assert {without_date(answer) for answer in without_us if answer} == {without_date(answers[0])}
