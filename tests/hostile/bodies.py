"""Bodies that nobody should send, each of which may come with a genuine signature all the same."""

import gzip
import json
import zlib
from typing import Any

#: Card numbers of the schemes' own tests, which pass the check digit; a real one would be just as unwelcome anywhere.
CARD_NUMBERS = ("4111111111111111", "5500005555555559")

#: Where the corpus plants it, it must not come out again.
CANARY = "canary-c0ffee"

LIMIT = 256 * 1024

TEXTS = {
    "SQL": "'; DROP TABLE webhook_events; --",
    "markup": "<script>alert(1)</script>",
    "a template": "{{7*7}}${7*7}<%= 7*7 %>",
    "a lookup": "${jndi:ldap://127.0.0.1/a}",
    "a format": "%s%n%x{0.__class__}",
    "a path": "../../../../etc/passwd",
    "a query": "1_0?x=1#y",
    "an escaped path": "1_0%2f..%2fother",
    "line ends": "a\r\nb\nc\u2028d\u0085e",
    "a forged line": '\n{"event": "forged", "level": "info"}\n2026-01-01T00:00:00Z [info] forged',
    "escape sequences": "\x1b[2J\x1b[31m\x1b]0;title\x07",
    "right to left": "\u202egnp.exe\u2066",
    "accents on accents": "Z" + "\u0300\u0301\u0302" * 50,
    "emoji": "\U0001f4b6\U0001f468\u200d\U0001f469",
    "NUL": "a\0b",
    "half a character": "\ud83d",
    "the other half": "\udcb6",
    "other digits": "\uff11\uff12\uff13",
    "look-alikes": "\u0430cme",
    "a card number": CARD_NUMBERS[0],
    "a canary": CANARY,
    "nothing": "",
    "a blank": " ",
    "much": "x" * 10_000,
}

NUMBERS = {
    "the largest of 64 bits": str(2**63 - 1),
    "one more than 64 bits": str(2**63),
    "the least of 64 bits": str(-(2**63)),
    "4,000 digits": "9" * 4000,
    "10,000 digits": "9" * 10_000,
    "minus nothing": "-0",
    "an exponent beyond": "1e400",
    "a tiny fraction": "1e-400",
    "NaN": "NaN",
    "infinity": "-Infinity",
    "a fraction": "12.34",
    "a leading nought": "007",
    "hexadecimal": "0x10",
}

DATES = (
    "2026-01-23T09:51:27.9529667+01:00",
    "2017-02-02T11:24:14.040+0100",
    "0000-01-01T00:00:00Z",
    "9999-12-31T23:59:60Z",
    "2026-02-30T00:00:00Z",
    "2026-01-23",
    "20260123095127",
    "soon",
)

SCALARS = ("null", "true", "0", '""', "[]", "{}", "[null]", '{"id":null}')

#: Where a value of an event can be odd.
PLACES = (
    "apiVersion",
    "id",
    "created",
    "merchantId",
    "type",
    "payment.id",
    "payment.status",
    "payment.paymentOutput.references.merchantReference",
)


IDENTIFIERS = ("id", "merchantId", "type", "payment.id")


def event(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "id": "0f09e8b2-0000-4000-8000-000000000001",
        "created": "2026-01-23T09:51:27.9529667+01:00",
        "merchantId": "acme",
        "type": "payment.captured",
        "payment": {
            "id": "3254564310_1",
            "status": "CAPTURED",
            "statusOutput": {"statusCode": 9, "statusCategory": "COMPLETED"},
            "paymentOutput": {
                "amountOfMoney": {"amount": 1500, "currencyCode": "EUR"},
                "references": {"merchantReference": "order-1"},
            },
        },
        **changes,
    }


def with_raw(path: str, raw: str) -> bytes:
    """The event with a value written as it stands, where no JSON library would write it so."""
    document = event()
    *outer, last = path.split(".")
    holder = document
    for name in outer:
        holder = holder[name]
    holder[last] = "@@"
    return json.dumps(document).replace('"@@"', raw).encode("utf-8", "surrogatepass")


def bodies() -> dict[str, bytes]:
    """Every one of them, by what is wrong with it; each at most as large as the door takes."""
    found: dict[str, bytes] = {}
    whole = json.dumps(event()).encode()
    for place in PLACES:
        for what, text in TEXTS.items():
            if place in IDENTIFIERS and text in CARD_NUMBERS:
                continue  # what the platform names so is an identifier, and kept as one
            found[f"{what} as {place}"] = with_raw(place, json.dumps(text))
        for raw in SCALARS:
            found[f"{raw} as {place}"] = with_raw(place, raw)
    for what, number in NUMBERS.items():
        for place in ("payment.paymentOutput.amountOfMoney.amount", "payment.statusOutput.statusCode"):
            found[f"{what} as {place}"] = with_raw(place, number)
    for date in DATES:
        found[f"created {date}"] = with_raw("created", json.dumps(date))
    for currency in ("EUr", "XXX", "EURO", "", "\u20ac"):
        found[f"currency {currency}"] = with_raw(
            "payment.paymentOutput.amountOfMoney.currencyCode", json.dumps(currency)
        )
    return found | _shapes(whole) | _encodings(whole)


def _shapes(whole: bytes) -> dict[str, bytes]:
    text = whole.decode()
    found = {f"a whole body of {raw}": raw.encode() for raw in (*SCALARS, "not JSON", "{", "]", '"', "'", "\\")}
    for depth in (900, 1_000, 100_000):
        found[f"lists nested {depth}"] = b"[" * depth + b"]" * depth
        found[f"objects nested {depth}"] = (b'{"a":' * depth)[: LIMIT // 2] + b"1"
        found[f"a field nested {depth}"] = text[:-1].encode() + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    for count in (0, 1, 2, 1_000, 1_001):
        small = json.dumps(event(payment={"id": "1_0"}), separators=(",", ":"))
        found[f"{count} events"] = ("[" + ",".join([small] * count) + "]").encode()
    found["a list as long as may be"] = b"[" + b"1," * (LIMIT // 2 - 2) + b"1]"
    found["an object of many names"] = (
        b"{" + b",".join(b'"%d":1' % number for number in range(20_000)) + b',"id":1,"id":2}'
    )
    found["one name many times"] = b"{" + b'"id":1,' * 30_000 + b'"id":2}'
    found["a long name"] = b'{"' + b"k" * 200_000 + b'":1}'
    for name, value in {"payment": '{"id":"1_0"}', "merchantId": '"other"', "id": '"2"', "type": '"x"'}.items():
        found[f"{name} twice"] = f'{text[:-1]},"{name}":{value}}}'.encode()
    found["payment and refund"] = json.dumps(event(refund={"id": "3254564310_2"})).encode()
    found["neither payment nor refund"] = json.dumps({k: v for k, v in event().items() if k != "payment"}).encode()
    found["another merchant"] = json.dumps(event(merchantId="stranger")).encode()
    found["the test event"] = json.dumps(event(type="payment.test", payment={"id": "9999_9"})).encode()
    found["a card in full"] = json.dumps(
        event(
            payment={
                "id": "1_0",
                "paymentOutput": {
                    "cardPaymentMethodSpecificOutput": {
                        "card": {"cardNumber": CARD_NUMBERS[0], "cvv": "123", "cardholderName": CANARY}
                    }
                },
            }
        )
    ).encode()
    return found


def _encodings(whole: bytes) -> dict[str, bytes]:
    text = whole.decode()
    return {
        "nothing": b"",
        "white space": b" \t\r\n" * 100,
        "NUL bytes": b"\0" * 1000,
        "every byte": bytes(range(256)) * 16,
        "a byte order mark": b"\xef\xbb\xbf" + whole,
        "UTF-16": text.encode("utf-16"),
        "UTF-32": text.encode("utf-32"),
        "latin-1": text.replace("order-1", "\xf6rdnung").encode("latin-1"),
        "overlong UTF-8": whole.replace(b"/", b"\xc0\xaf") + b"\xc0\xaf",
        "gzip": gzip.compress(whole),
        "deflate": zlib.compress(whole),
        "a bomb": gzip.compress(b"0" * 50_000_000)[:LIMIT],
        "something after it": whole + b"x",
        "two of them": whole + whole,
        "cut short": whole[:-20],
        "a form": b"type=payment.captured&id=1",
        "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "YAML": b"!!python/object/apply:os.system ['true']",
        "a multipart form": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
        "HTTP": b"POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "chunks": b"5\r\nhello\r\n0\r\n\r\n",
        "as large as may be": b"y" * LIMIT,
    }
