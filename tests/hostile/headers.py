"""Headers that are none, are too many, or are not what they seem; each with a body whose signature would be right."""

from tests.hostile.bodies import CANARY, CARD_NUMBERS

Lines = list[bytes]


def forgeries(key_id: str, signature: str) -> dict[str, Lines]:
    """Header lines that do not prove anything, made from ones that would."""
    key, sign = b"X-GCS-KeyId: " + key_id.encode(), b"X-GCS-Signature: " + signature.encode()
    raw = signature.encode()
    signatures = {
        "for URLs": raw.replace(b"+", b"-").replace(b"/", b"_").replace(b"=", b"-="),
        "without padding": raw.rstrip(b"="),
        "with more padding": raw + b"=",
        "twice in one": raw + raw,
        "joined by a comma": raw + b"," + raw,
        "joined by comma and blank": raw + b", " + raw,
        "with a blank inside": raw[:9] + b" " + raw[9:],
        "with a tab inside": raw[:9] + b"\t" + raw[9:],
        "in quotes": b'"' + raw + b'"',
        "in capitals": raw.upper(),
        "in hexadecimal": b"ab" * 32,
        "with its scheme": b"sha256=" + raw,
        "nothing": b"",
        "not ASCII": b"\xc3\xbc" * 22,
        "bytes that are no text": b"\xff\xfe" * 22,
        "escape sequences": b"\x1b[31m" + raw,
        "a line end in percents": raw + b"%0d%0aX: y",
        "a canary": CANARY.encode(),
        "a card number": CARD_NUMBERS[0].encode(),
        "very long": b"A" * 4000,
    }
    key_ids = {
        "one character": b"k",
        "nothing": b"",
        "only blanks": b"   ",
        "of another case": key_id.upper().encode(),
        "a path": b"../" + key_id.encode(),
        "SQL": b"' OR '1'='1",
        "a wildcard": b"%",
        "not ASCII": b"cl\xc3\xa9",
        "bytes that are no text": b"\xff\xff",
        "markup": b"<script>",
        "a lookup": b"${jndi:ldap://127.0.0.1/a}",
        "a format": b"%s%n{0.__class__}",
        "joined by a comma": key_id.encode() + b"," + key_id.encode(),
        "escape sequences": b"\x1b[2J" + key_id.encode(),
        "a canary": CANARY.encode(),
        "a card number": CARD_NUMBERS[1].encode(),
        "128 characters": b"k" * 128,
        "129 characters": b"k" * 129,
        "very long": b"k" * 4000,
    }
    cases: dict[str, Lines] = {
        **{f"signature: {what}": [key, b"X-GCS-Signature: " + value] for what, value in signatures.items()},
        **{f"key id: {what}": [b"X-GCS-KeyId: " + value, sign] for what, value in key_ids.items()},
        "neither": [],
        "no key id": [sign],
        "no signature": [key],
        "the signature twice": [key, sign, sign],
        "the signature and another": [key, sign, b"X-GCS-Signature: " + b"A" * 43 + b"="],
        "another and the signature": [key, b"X-GCS-Signature: " + b"A" * 43 + b"=", sign],
        "the key id twice": [key, key, sign],
        "underscores": [key.replace(b"-", b"_"), sign.replace(b"-", b"_")],
        "underscores in one of them": [key, sign.replace(b"-", b"_")],
        "dots": [key, sign.replace(b"X-GCS", b"X.GCS")],
        "forwarded as ourselves": [b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: https", b"Forwarded: for=::1"],
    }
    return cases


#: What proxies say of a sender, and what some servers believe of anybody.
CLAIMS: dict[str, Lines] = {
    "another address": [
        b"X-Forwarded-For: 10.0.0.1, ::1",
        b"X-Real-IP: 10.0.0.1",
        b"Forwarded: for=10.0.0.1;proto=http",
    ],
    "another scheme": [b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off", b"X-Forwarded-Protocol: ssl"],
    "another host": [b"X-Forwarded-Host: other.test", b"X-Host: other.test"],
    "another path": [b"X-Original-URL: /health/ready", b"X-Rewrite-URL: /health/ready", b"X-Forwarded-Prefix: /x"],
    "another path, as servers call it": [b"SCRIPT_NAME: /webhooks", b"PATH_INFO: /health/ready"],
    "another method": [b"X-HTTP-Method-Override: DELETE", b"X-Method-Override: GET"],
    "another length": [b"Content_Length: 1", b"Transfer_Encoding: chunked"],
    "another user": [b"REMOTE_USER: root", b"X-Remote-User: root", b"Authorization: Basic YWRtaW46YWRtaW4="],
}


def malformed(key_id: str, signature: str) -> dict[str, Lines]:
    """Header lines that HTTP does not know: refused before anybody asks what they prove, or of no effect."""
    key, sign = b"X-GCS-KeyId: " + key_id.encode(), b"X-GCS-Signature: " + signature.encode()
    return {
        "a blank before the colon": [key, sign.replace(b":", b" :")],
        "a line folded": [key, b"X-GCS-Signature:\r\n " + signature.encode()],
        "a line folded in the middle": [key, sign[:30] + b"\r\n\t" + sign[30:]],
        "a line that is no header": [key, CANARY.encode(), b"X-GCS-Signature: A"],
        "no name": [key, b": " + signature.encode()],
        "a NUL": [key, b"X-GCS-Signature: A\0" + signature.encode()],
        "a bare carriage return": [key, b"X-GCS-Signature: A\rX-Other: " + signature.encode()],
        "a bare line feed": [key, b"X-GCS-Signature: A\nX-Other: " + CARD_NUMBERS[0].encode()],
        "a name with a blank": [b"X GCS KeyId: " + key_id.encode(), sign],
        "a name with a control character": [b"X-\x1b[31m: y", key, b"X-GCS-Signature: A"],
        "a name of all kinds": [b"X-(){}<>@,;: " + CANARY.encode()],
        "a very long value": [key, b"X-Long: " + b"x" * 100_000],
        "a very long name": [key, b"X-" + b"x" * 100_000 + b": y"],
        "very many": [key, *(b"X-%d: y" % number for number in range(10_000))],
    }
