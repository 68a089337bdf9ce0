"""An nginx of the tests' own, on the very configuration that is deployed; only its addresses are the test's."""

import datetime
import os
import shutil
import ssl
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.servers.server import INSTALL, Server

SHIPPED = Path(__file__).parents[2] / "deploy" / "nginx"
PROGRAM = Path("/usr/sbin/nginx")
SHIPPED_PORT = "8443"
SHIPPED_SECRETS = "/run/secrets"


class NginxServer(Server):
    """nginx in front of ingresses on this machine, speaking HTTPS with a certificate that nobody has signed.

    Args:
        ingress_ports: where the ingresses listen, one for each that the shipped configuration names.
    """

    name = "nginx"

    def __init__(self, *ingress_ports: int) -> None:
        # As in its container, nothing of it is root.
        self.user = "www-data" if os.geteuid() == 0 else None
        self._ingress_ports = ingress_ports
        super().__init__()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        if not PROGRAM.exists():
            raise RuntimeError(f"no nginx here; {INSTALL}")
        shutil.copy(SHIPPED / "nginx.conf", self.folder)
        listen = (SHIPPED / "listen.conf").read_text()
        assert SHIPPED_PORT in listen
        assert SHIPPED_SECRETS in listen
        listen = listen.replace(SHIPPED_PORT, f"127.0.0.1:{self.port}").replace(SHIPPED_SECRETS, str(self.folder))
        (self.folder / "listen.conf").write_text(listen)
        (self.folder / "upstream.conf").write_text(with_addresses(self._ingress_ports))
        for name, content in zip(("tls_certificate", "tls_key"), self_signed(), strict=True):
            (self.folder / name).write_bytes(content)
            self.give_to_user(self.folder / name)

    def command(self) -> list[str]:
        return [str(PROGRAM), *arguments(self.folder, self.folder / "nginx.conf")]

    def ask(self) -> object:
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusting())
        )
        try:
            return opener.open(f"{self.url}/webhooks", timeout=5)
        except urllib.error.HTTPError as error:  # a refusal is an answer
            return error


def arguments(prefix: Path, configuration: Path) -> list[str]:
    """nginx's arguments, as the container gives them."""
    return ["-p", str(prefix), "-c", str(configuration), "-e", "stderr", "-g", "daemon off;"]


def with_addresses(ports: tuple[int, ...]) -> str:
    """The shipped group of ingresses, at these ports of this machine."""
    lines = (SHIPPED / "upstream.conf").read_text().splitlines()
    servers = [number for number, line in enumerate(lines) if line.split()[:1] == ["server"]]
    for number, port in zip(servers, ports, strict=True):
        shipped = lines[number].split()[1]
        lines[number] = lines[number].replace(shipped, f"127.0.0.1:{port}")
    return "\n".join(lines) + "\n"


def trusting() -> ssl.SSLContext:
    """TLS without asking who is there: the certificate is the test's own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def self_signed() -> tuple[bytes, bytes]:
    """A certificate for a day, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private
