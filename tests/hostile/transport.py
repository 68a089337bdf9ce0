"""What comes over a connection and is no request, or more than one, depending on who reads it."""

from tests.hostile.bodies import CANARY, CARD_NUMBERS


def head(*lines: bytes, request: bytes = b"POST /webhooks HTTP/1.1") -> bytes:
    return b"\r\n".join([request, b"Host: x", *lines, b"", b""])


def requests(hidden: bytes) -> dict[str, bytes]:
    """What is one request at most, with a genuine one hidden in some of them: read in another way, it would be two."""
    chunked, plain = b"Transfer-Encoding: chunked", b"Content-Length: 4"
    whole_length = b"Content-Length: %d" % (len(hidden) + 5)
    return {
        "a length and chunks": head(whole_length, chunked) + b"0\r\n\r\n" + hidden,
        "chunks and a length": head(chunked, whole_length) + b"0\r\n\r\n" + hidden,
        "a short length and chunks": head(plain, chunked) + b"%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n",
        "two lengths": head(plain, b"Content-Length: %d" % len(hidden)) + hidden,
        "two equal lengths": head(plain, plain) + b"body",
        "a length of two": head(b"Content-Length: 4, 4") + b"body",
        "a length with a sign": head(b"Content-Length: +4") + b"body",
        "a negative length": head(b"Content-Length: -4") + b"body",
        "a length in hexadecimal": head(b"Content-Length: 0x4") + b"body",
        "a length with an underscore": head(b"Content-Length: 1_0") + b"0123456789",
        "a length beyond 64 bits": head(b"Content-Length: " + b"9" * 30) + b"body",
        "a length that is a word": head(b"Content-Length: " + CANARY.encode()) + b"body",
        "chunks twice": head(chunked, chunked) + b"0\r\n\r\n" + hidden,
        "chunks twice in one": head(b"Transfer-Encoding: chunked, chunked") + b"0\r\n\r\n" + hidden,
        "chunks, then nothing": head(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n" + hidden,
        "chunks by another name": head(b"Transfer-Encoding: xchunked", plain) + b"body",
        "chunks behind a vertical tab": head(b"Transfer-Encoding: \x0bchunked", plain) + b"0\r\n\r\n",
        "chunks with a blank before the colon": head(b"Transfer-Encoding : chunked", plain) + b"0\r\n\r\n",
        "chunks on a folded line": head(b"Transfer-Encoding:\r\n chunked", plain) + b"0\r\n\r\n",
        "a compressed transfer": head(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        "lines that end in a line feed": head(plain).replace(b"\r\n", b"\n") + b"body",
        "a chunk size that is none": head(chunked) + CANARY.encode() + b"\r\nbody\r\n0\r\n\r\n",
        "a negative chunk": head(chunked) + b"-4\r\nbody\r\n0\r\n\r\n",
        "a chunk size beyond 64 bits": head(chunked) + b"f" * 20 + b"\r\nbody\r\n0\r\n\r\n",
        "a chunk size with 0x": head(chunked) + b"0x4\r\nbody\r\n0\r\n\r\n",
        "a chunk longer than it says": head(chunked) + b"2\r\nbody\r\n0\r\n\r\n",
        "a chunk that ends in a line feed": head(chunked) + b"4\nbody\n0\n\n",
        "a long chunk extension": head(chunked) + b"4;x=" + b"y" * 100_000 + b"\r\nbody\r\n0\r\n\r\n",
        "a method that is none": head(plain, request=b"P\x00ST /webhooks HTTP/1.1") + b"body",
        "a method in small letters": head(plain, request=b"post /webhooks HTTP/1.1") + b"body",
        "a method that is a canary": head(plain, request=CANARY.encode() + b" /webhooks HTTP/1.1") + b"body",
        "CONNECT": head(request=b"CONNECT 127.0.0.1:22 HTTP/1.1"),
        "a target of another host": head(plain, request=b"POST http://other.test/webhooks HTTP/1.1") + b"body",
        "a target with a user": head(plain, request=b"POST http://a:b@x/webhooks HTTP/1.1") + b"body",
        "a target with a card number": head(plain, request=b"POST /%s HTTP/1.1" % CARD_NUMBERS[0].encode()) + b"body",
        "a target with a canary": head(plain, request=b"POST /webhooks?q=%s HTTP/1.1" % CANARY.encode()) + b"body",
        "a target with escape sequences": head(plain, request=b"POST /\x1b[31m HTTP/1.1") + b"body",
        "a target with line ends in percents": head(plain, request=b"GET /%0d%0aX:%20y HTTP/1.1") + b"body",
        "a target up the tree": head(request=b"GET /webhooks/../../etc/passwd HTTP/1.1"),
        "a target that is not text": head(request=b"GET /\xff\xfe HTTP/1.1"),
        "a target without end": head(request=b"GET /" + b"a" * 100_000 + b" HTTP/1.1"),
        "HTTP/0.9": b"GET /webhooks\r\n",
        "HTTP/1.0 without a host": b"POST /webhooks HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 without a host": b"POST /webhooks HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody",
        "two hosts": head(b"Host: y", plain) + b"body",
        "HTTP/3.7": head(plain, request=b"POST /webhooks HTTP/3.7") + b"body",
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        "an upgrade to HTTP/2": head(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", plain) + b"body",
        "a websocket": head(b"Upgrade: websocket", b"Connection: Upgrade", request=b"GET /webhooks HTTP/1.1"),
        "TLS in TLS, or where none is spoken": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
        "the PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + head(plain) + b"body",
        "noise": bytes(range(256)) * 8,
        "line ends": b"\r\n" * 2000,
        "nothing": b"",
        "half a head": b"POST /webhooks HTTP/1.1\r\nHost: x\r\nX-GCS-Sig",
        "half a body": head(b"Content-Length: 1000") + b"half",
        "half a chunk": head(chunked) + b"ff\r\nhalf",
        "an expectation nobody meets": head(b"Expect: 200-maybe", plain) + b"body",
    }
