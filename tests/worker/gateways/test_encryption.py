"""TLS: whom the connection trusts, and that its time holds there too."""

import datetime
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.worker.gateways.platform_stub import MakeGateway, Stub, answer, failure_of, head, payment, raw
from worker.gateways.connection import AnswerLost, NeverLeft, PlatformConnection
from worker.gateways.gateway import NotSent


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of ``localhost``, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def encrypted(certificate: Path) -> Iterator[Stub]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    stub = Stub(tls=tls)
    stub.replies = {"payment": answer(200, payment(code=0))}
    yield stub
    stub.close()


def trusting(certificate: Path, endpoint: str) -> PlatformConnection:
    tls = ssl.create_default_context(cafile=certificate)
    return PlatformConnection(endpoint, call_seconds=0.5, connect_seconds=0.5, pool_size=1, tls=tls)


def test_an_unknown_authority_is_refused_before_anything_is_sent(encrypted: Stub, gateway_to: MakeGateway) -> None:
    """Our key and the request are shown to nobody who cannot prove to be the platform."""
    with pytest.raises(NotSent, match="SSL"):
        gateway_to(f"https://localhost:{encrypted.port}").look("3254564310", seconds=5)

    assert encrypted.asked == []


def test_another_name_is_refused_before_anything_is_sent(encrypted: Stub, certificate: Path) -> None:
    """A trusted certificate of another host is not the platform's."""
    failure = failure_of(trusting(certificate, encrypted.endpoint), f"{encrypted.endpoint}/x")

    assert isinstance(failure, NeverLeft)
    assert encrypted.asked == []


def test_a_proven_host_is_asked_on_one_connection(encrypted: Stub, certificate: Path) -> None:
    """The handshake is done once and its connection kept."""
    endpoint = f"https://localhost:{encrypted.port}"
    connection = trusting(certificate, endpoint)

    statuses = [connection.get(f"{endpoint}/x", [])[0] for _ in range(3)]

    assert statuses == [200, 200, 200]
    assert encrypted.accepted == 1


def test_a_slow_encrypted_answer_ends_on_time(encrypted: Stub, certificate: Path) -> None:
    """Each byte in a record of its own, and still the call is over."""
    encrypted.replies = {"payment": raw(head(200, Content_Length="100"), *[b" "] * 20, every=0.1)}
    endpoint = f"https://localhost:{encrypted.port}"
    started = time.monotonic()

    failure = failure_of(trusting(certificate, endpoint), f"{endpoint}/x")

    assert isinstance(failure, AnswerLost)
    assert 0.45 < time.monotonic() - started < 1.5  # all of it would take two seconds


def test_a_handshake_nobody_answers_was_not_sent(certificate: Path) -> None:
    """A host that takes the connection and says nothing has heard no request."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"https://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()

        failure = failure_of(trusting(certificate, endpoint), f"{endpoint}/x")

    assert isinstance(failure, NeverLeft)
    assert 0.45 < time.monotonic() - started < 5
