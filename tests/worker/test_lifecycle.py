"""Every status code of the platform, the amounts behind a payment, and the one spelling of its id."""

import pytest

from worker.lifecycle import (
    DISPUTED_CODES,
    REFUSED_MAINTENANCE,
    STATES_BY_CATEGORY,
    STATES_BY_CODE,
    Amounts,
    MovementKind,
    MovementState,
    PaymentState,
    amounts_of,
    canonical_payment_id,
    decimals,
    money_may_have_moved,
    movement_kind,
    movement_state,
    names_operation,
    payment_state,
    refined,
)

S, K, M = PaymentState, MovementKind, MovementState

# What the platform's reference says of each code: the payment's state by the code alone, and of which kind of
# operation it tells what. Where its sources disagree the code alone says nothing, and the payment is looked at again.
CODES = {
    0: (S.CREATED, None, None),
    1: (S.CANCELLED, None, None),  # by the customer, before anything was authorised
    2: (S.REJECTED, None, None),
    4: (S.PENDING, None, None),  # stored, or a capture queued
    5: (S.AUTHORISED, None, None),
    6: (S.CANCELLED, K.CANCEL, M.DONE),
    7: (S.REFUNDED, K.REFUND, M.DONE),
    8: (S.REFUNDED, K.REFUND, M.DONE),
    9: (S.CAPTURED, K.CAPTURE, M.DONE),
    46: (S.PENDING, None, None),
    50: (S.PENDING, None, None),
    51: (S.PENDING, None, None),
    52: (S.PENDING, None, None),  # may have been authorised
    55: (S.PENDING, None, None),
    56: (S.PENDING, None, None),  # disputed
    57: (S.PENDING, None, None),  # disputed
    59: (S.PENDING, None, None),  # disputed
    61: (S.AUTHORISED, K.CANCEL, M.PENDING),
    62: (S.AUTHORISED, K.CANCEL, M.PENDING),
    63: (S.AUTHORISED, K.CANCEL, M.REFUSED),
    64: (S.CANCELLED, K.CANCEL, M.DONE),
    71: (S.CAPTURED, K.REFUND, M.PENDING),
    72: (S.CAPTURED, K.REFUND, M.PENDING),
    73: (S.CAPTURED, K.REFUND, M.REFUSED),
    74: (S.REFUNDED, K.REFUND, M.DONE),
    75: (S.REFUNDED, K.REFUND, M.DONE),
    81: (S.CAPTURED, K.REFUND, M.PENDING),
    82: (S.CAPTURED, K.REFUND, M.PENDING),
    83: (S.CAPTURED, K.REFUND, M.REFUSED),
    84: (S.PENDING, K.REFUND, M.REFUSED),  # disputed
    85: (S.REFUNDED, K.REFUND, M.DONE),
    91: (S.AUTHORISED, K.CAPTURE, M.PENDING),
    92: (S.AUTHORISED, K.CAPTURE, M.PENDING),
    93: (S.AUTHORISED, K.CAPTURE, M.REFUSED),
    94: (S.PENDING, K.CAPTURE, None),  # disputed: a refund's or a capture's
    95: (S.CAPTURED, K.CAPTURE, M.DONE),
    99: (S.PENDING, K.CAPTURE, M.PENDING),
}


@pytest.mark.parametrize("code", CODES)
def test_each_code_stands_in_exactly_one_table(code: int) -> None:
    """No code is forgotten, and none has two meanings."""
    tables = [code in table for table in (REFUSED_MAINTENANCE, STATES_BY_CODE, DISPUTED_CODES)]

    assert tables.count(True) == 1


def test_no_table_holds_a_code_that_the_platform_does_not_have() -> None:
    """The tables together are the platform's list, and nothing more."""
    assert {*REFUSED_MAINTENANCE, *STATES_BY_CODE, *DISPUTED_CODES} == set(CODES)


@pytest.mark.parametrize(("code", "state"), [(code, row[0]) for code, row in CODES.items()])
def test_a_code_alone_tells_the_state_of_the_payment(code: int, state: PaymentState) -> None:
    """Each code means what the platform's reference says of it."""
    assert payment_state(code, None) is state


@pytest.mark.parametrize(("code", "kind"), [(code, row[1]) for code, row in CODES.items()])
def test_a_code_tells_the_kind_of_operation_it_belongs_to(code: int, kind: MovementKind | None) -> None:
    """6x cancels, 7x and 8x refund, 9x captures; an authorisation's code belongs to none of them."""
    assert movement_kind(code) is kind


@pytest.mark.parametrize(("code", "kind", "state"), [(code, *row[1:]) for code, row in CODES.items() if row[2]])
def test_a_code_alone_tells_what_became_of_an_operation(code: int, kind: MovementKind, state: MovementState) -> None:
    """A capture's listing carries nothing but its code."""
    assert movement_state(kind, code, None, None) is state


@pytest.mark.parametrize("code", [None, 3, 10, 12, 47, 60, 65, 77, 100, 1000, -1])
def test_a_code_that_is_in_no_list_is_settled_by_the_category(code: int | None) -> None:
    """The platform adds statuses to the categories it has; without a category the payment is looked at again."""
    assert payment_state(code, None) is S.PENDING
    assert payment_state(code, "") is S.PENDING
    assert payment_state(code, "SOMETHING_NEW") is S.PENDING
    assert {category: payment_state(code, category) for category in STATES_BY_CATEGORY} == STATES_BY_CATEGORY


@pytest.mark.parametrize("code", sorted(DISPUTED_CODES))
def test_a_disputed_code_is_settled_by_the_category(code: int) -> None:
    """Where the platform's own sources disagree, the category decides."""
    assert payment_state(code, "PENDING_MERCHANT") is S.AUTHORISED
    assert payment_state(code, "UNSUCCESSFUL") is S.REJECTED
    assert payment_state(code, None) is S.PENDING


def test_every_category_of_the_platform_is_known() -> None:
    """The list of categories is the platform's."""
    assert {category: str(state) for category, state in STATES_BY_CATEGORY.items()} == {
        "CREATED": "created",
        "UNSUCCESSFUL": "rejected",
        "PENDING_PAYMENT": "pending",
        "PENDING_MERCHANT": "authorised",
        "PENDING_CONNECT_OR_3RD_PARTY": "pending",
        "COMPLETED": "captured",
        "REVERSED": "cancelled",
        "REFUNDED": "refunded",
    }


@pytest.mark.parametrize("category", [None, *STATES_BY_CATEGORY])
@pytest.mark.parametrize(
    ("code", "state"), [(63, S.AUTHORISED), (73, S.CAPTURED), (83, S.CAPTURED), (93, S.AUTHORISED)]
)
def test_refused_maintenance_goes_before_the_category(code: int, state: PaymentState, category: str | None) -> None:
    """A refused refund comes with UNSUCCESSFUL, and the payment is captured all the same."""
    assert payment_state(code, category) is state


@pytest.mark.parametrize("status", [None, "REJECTED", "CANCELLED", "CAPTURE_REQUESTED", "REFUND_REQUESTED"])
@pytest.mark.parametrize("category", [None, "UNSUCCESSFUL", "PENDING_CONNECT_OR_3RD_PARTY", "COMPLETED"])
@pytest.mark.parametrize(("code", "kind"), [(63, K.CANCEL), (73, K.REFUND), (83, K.REFUND), (93, K.CAPTURE)])
def test_a_refused_operation_is_refused_whatever_the_words_say(
    code: int, kind: MovementKind, status: str | None, category: str | None
) -> None:
    """63, 73, 83 and 93 are tested before status and category."""
    assert movement_state(kind, code, status, category) is M.REFUSED


@pytest.mark.parametrize(
    ("kind", "code", "status", "category"),
    [
        (K.REFUND, 8, "REFUND_REQUESTED", "PENDING_CONNECT_OR_3RD_PARTY"),  # as one of the platform's own stubs has it
        (K.REFUND, 8, "REFUND_REQUESTED", None),
        (K.REFUND, 8, "REFUNDED", "PENDING_CONNECT_OR_3RD_PARTY"),
        (K.CAPTURE, 9, "CAPTURE_REQUESTED", None),
        (K.CANCEL, 6, "CANCELLED", "PENDING_MERCHANT"),
        (K.CANCEL, 61, "CANCELLED", "PENDING_MERCHANT"),
        (K.CAPTURE, 4, "CAPTURE_REQUESTED", None),
        (K.CAPTURE, None, None, None),
        (K.REFUND, 1234, "NEW_WORD", "NEW_CATEGORY"),
    ],
)
def test_where_code_and_words_disagree_an_operation_is_pending(
    kind: MovementKind, code: int | None, status: str | None, category: str | None
) -> None:
    """The pending reading is the safe one: it is looked at again."""
    assert movement_state(kind, code, status, category) is M.PENDING


@pytest.mark.parametrize(
    ("kind", "code", "status", "category", "state"),
    [
        (K.REFUND, 8, "REFUNDED", "REFUNDED", M.DONE),
        (K.CAPTURE, 9, "CAPTURED", "COMPLETED", M.DONE),
        (K.CANCEL, 6, "CANCELLED", "UNSUCCESSFUL", M.DONE),
        (K.CAPTURE, None, "REJECTED_CAPTURE", None, M.REFUSED),
        (K.REFUND, None, "REJECTED", None, M.REFUSED),
        (K.CAPTURE, None, None, "UNSUCCESSFUL", M.REFUSED),
    ],
)
def test_where_code_and_words_agree_an_operation_has_ended(
    kind: MovementKind, code: int | None, status: str | None, category: str | None, state: MovementState
) -> None:
    """A cancellation that is done counts as done although its category is UNSUCCESSFUL."""
    assert movement_state(kind, code, status, category) is state


@pytest.mark.parametrize(
    ("state", "code", "moved"),
    [
        (S.CREATED, 0, False),
        (S.PENDING, 51, False),
        (S.REJECTED, 2, False),
        (S.CANCELLED, 1, False),
        (S.CANCELLED, 6, True),
        (S.AUTHORISED, 5, True),
        (S.AUTHORISED, 93, True),
        (S.CAPTURED, 9, True),
        (S.REFUNDED, 8, True),
    ],
)
def test_only_a_payment_that_was_authorised_can_have_moved_money(state: PaymentState, code: int, moved: bool) -> None:
    """A customer's own cancellation (1) comes before any authorisation, a merchant's (6) after it."""
    assert money_may_have_moved(state, code) is moved


def test_amounts_are_the_sums_of_what_is_listed() -> None:
    """Each kind and state adds up by itself; what was refused counts nowhere."""
    movements = [
        (K.CAPTURE, M.DONE, 300),
        (K.CAPTURE, M.DONE, 200),
        (K.CAPTURE, M.PENDING, 100),
        (K.CAPTURE, M.REFUSED, 900),
        (K.REFUND, M.DONE, 50),
        (K.REFUND, M.PENDING, 25),
        (K.REFUND, M.REFUSED, 900),
        (K.CANCEL, M.DONE, 10),
        (K.CANCEL, M.PENDING, 900),
        (K.CANCEL, M.REFUSED, 900),
    ]

    amounts = amounts_of(S.CAPTURED, 9, 1000, 777, movements)

    assert amounts == Amounts(
        authorised=1000, captured=500, capture_pending=100, refunded=50, refund_pending=25, cancelled=10
    )


@pytest.mark.parametrize(("acquired", "captured"), [(800, 800), (None, 1000)])
def test_a_sale_that_lists_no_capture_is_captured_by_what_the_payment_says(acquired: int | None, captured: int) -> None:
    """``acquiredAmount`` when there is one, else ``amountOfMoney``."""
    assert amounts_of(S.CAPTURED, 9, 1000, acquired, []).captured == captured
    assert amounts_of(S.REFUNDED, 8, 1000, acquired, [(K.REFUND, M.DONE, 1)]).captured == captured


def test_an_acquired_amount_of_nothing_is_nothing() -> None:
    """The platform said 0, so 0 was captured: only None is silence."""
    assert amounts_of(S.CAPTURED, 9, 1000, 0, []).captured == 0


def test_a_capture_that_is_listed_goes_before_what_the_payment_says() -> None:
    """Also when the only one listed is pending or was refused: nothing has been captured then."""
    assert amounts_of(S.CAPTURED, 9, 1000, 1000, [(K.CAPTURE, M.PENDING, 400)]).captured == 0
    assert amounts_of(S.CAPTURED, 9, 1000, 1000, [(K.CAPTURE, M.REFUSED, 400)]).captured == 0


@pytest.mark.parametrize(
    ("state", "code"), [(S.CREATED, 0), (S.PENDING, 46), (S.REJECTED, 2), (S.CANCELLED, 1), (S.AUTHORISED, 5)]
)
def test_nothing_is_captured_before_the_payment_is(state: PaymentState, code: int) -> None:
    """An acquired amount counts for a captured payment only; before the authorisation nothing is reserved."""
    amounts = amounts_of(state, code, 1000, 1000, [])

    assert amounts.captured == 0
    assert amounts.authorised == (1000 if state is S.AUTHORISED else 0)


@pytest.mark.parametrize(
    ("state", "captured", "refunded", "shown"),
    [
        (S.CAPTURED, 1000, 0, S.CAPTURED),
        (S.CAPTURED, 1000, 999, S.CAPTURED),
        (S.CAPTURED, 1000, 1000, S.REFUNDED),  # the payment's own code stays 9
        (S.CAPTURED, 1000, 1001, S.REFUNDED),
        (S.REFUNDED, 1000, 400, S.CAPTURED),  # 8 of one partial refund is not the whole payment's
        (S.REFUNDED, 1000, 1000, S.REFUNDED),
        (S.REFUNDED, 0, 0, S.REFUNDED),
        (S.CAPTURED, 0, 0, S.CAPTURED),
        (S.AUTHORISED, 500, 500, S.AUTHORISED),
        (S.CANCELLED, 0, 0, S.CANCELLED),
    ],
)
def test_captured_or_refunded_is_told_by_the_amounts(
    state: PaymentState, captured: int, refunded: int, shown: PaymentState
) -> None:
    """A payment is refunded when all that was captured went back, whatever its code says after a partial refund."""
    amounts = Amounts(1000, captured, 0, refunded, 0, 0)

    assert refined(state, amounts) is shown


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("3254564310", "3254564310"),
        ("3254564310_0", "3254564310"),
        ("3254564310_1", "3254564310"),
        ("3119006932_11", "3119006932"),
        ("9000003261218192000", "3261218192"),
        ("9000003254564310000", "3254564310"),
        ("9000003254564310000_0", "3254564310"),
        ("9000073254564310000", "73254564310"),  # eleven digits after 90000
        ("90000073254564310000", "73254564310"),  # eleven digits after 900000
        ("00000200000143570012", "00000200000143570012"),  # twenty digits that wrap nothing
        ("90000", "90000"),
        ("9999_9", "9999"),
        ("1", "1"),
    ],
)
def test_every_spelling_of_a_payment_folds_into_one(raw: str, canonical: str) -> None:
    """Both formats of the platform, and every operation's suffix."""
    assert canonical_payment_id(raw) == canonical
    assert canonical_payment_id(canonical) == canonical


@pytest.mark.parametrize(
    "raw",
    [
        "",
        " ",
        "_",
        "_1",
        "3254564310_",
        "3254564310_1_2",
        "3254564310_1234567",
        "123456789012345678901",
        "3254564310_0/../../other",
        "../3254564310",
        "3254564310_0?x=1",
        "3254564310%2f",
        "3254564310#",
        " 3254564310",
        "3254564310 ",
        "3254564310\r\n",
        "3254564310\0",
        "-3254564310",
        "+3254564310",
        "3.25e9",
        "3254564310\u202e",
        "٣٢٥٤٥٦٤٣١٠",
        "325456431\N{FULLWIDTH DIGIT ZERO}",
        "325456431²",
        "3254564310_\N{FULLWIDTH DIGIT ONE}",
        "abc",
        "0x10",
        "3254564310\n_1",
        "3254564310\n",
        "3254564310_1\n",
        "9000003254564310000\n",
    ],
)
def test_what_is_no_payment_id_has_no_spelling(raw: str) -> None:
    """The SDK puts ids into URLs without escaping: nothing but digits and one suffix passes, and no line end after."""
    assert canonical_payment_id(raw) is None


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("3254564310_0", False),
        ("3254564310_1", True),
        ("3254564310_12", True),
        ("3254564310_000", False),
        ("3254564310", False),
        ("9000003254564310000", False),
        ("9000003254564310001", True),
        ("9000032545643101012", True),  # 90000 before eleven digits
        ("9000003254564310000_2", True),
        ("9000003254564310000_0", False),
        ("00000200000143570012", False),  # as long, but it wraps nothing: its end is no count
        ("00000200000143570012_3", True),
    ],
)
def test_an_operation_is_told_from_its_payment_by_its_id(raw: str, expected: bool) -> None:
    """Only what carries a number above nought is an operation; anything else could be the payment itself."""
    assert names_operation(raw) is expected


@pytest.mark.parametrize(
    ("currencies", "expected"),
    [
        ("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF", 0),
        ("EUR USD GBP CHF SEK HUF TWD MGA MRU", 2),
        ("BHD IQD JOD KWD LYD OMR TND", 3),
        ("CLF UYW", 4),
    ],
)
def test_every_currency_has_its_decimals(currencies: str, expected: int) -> None:
    """As ISO 4217 has it, whatever some banks do."""
    assert {decimals(currency) for currency in currencies.split()} == {expected}
