"""A RabbitMQ server of the tests' own: a node that knows no other."""

import secrets
import shutil
import subprocess
from itertools import count
from pathlib import Path

import amqp

from tests.servers.ports import free_port
from tests.servers.server import INSTALL, Server
from tests.servers.undertaker import undertaker

# Debian's programs in /usr/sbin are wrappers around these, which insist on the package's own user and folders.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")

SETTINGS = """\
listeners.tcp.1 = 127.0.0.1:{port}
log.console = true
log.console.level = warning
log.file = false
disk_free_limit.absolute = 1MB
"""

# One `eval` of the command line instead of add_vhost and set_permissions: each call costs half a second.
ADD_VHOST = """
rabbit_vhost:add(<<"{name}">>, <<"tests">>),
rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>).
"""
DROP_VHOST = 'rabbit_vhost:delete(<<"{name}">>, <<"tests">>), '


class RabbitmqServer(Server):
    """One node; each test takes a fresh vhost of it."""

    name = "rabbitmq"

    def __init__(self) -> None:
        self._numbers = count(1)
        self._dropped: list[str] = []
        # Where its command line's node listens, and where nodes find each other (a port mapper of our own).
        self._node_port, self._cli_port, self._mapper_port = free_port(), free_port(), free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        super().__init__()

    @property
    def url(self) -> str:
        """Where the server is: its vhost "/"."""
        return self._url_of("%2F")

    def prepare(self) -> None:
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise RuntimeError(f"no RabbitMQ here; {INSTALL}")
        (self.folder / "rabbitmq.conf").write_text(SETTINGS.format(port=self.port))
        (self.folder / "enabled_plugins").write_text("[].\n")
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),  # else the machine's own in /etc
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "none.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_NODENAME": f"payhook-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(self._cli_port),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(self._cli_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
        }

    def command(self) -> list[str]:
        self._start_mapper()
        return [str(PROGRAMS / "rabbitmq-server")]

    def ask(self) -> object:
        # Not kombu's Connection, which tries again after 2 s.
        with amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=2) as connection:
            return connection.connected

    def new_vhost(self) -> str:
        """Make an empty vhost; its URL."""
        name = f"test-{next(self._numbers)}"
        drops = "".join(DROP_VHOST.format(name=old) for old in self._dropped)
        self.run(str(PROGRAMS / "rabbitmqctl"), "--quiet", "eval", drops + ADD_VHOST.format(name=name))
        self._dropped.clear()
        return self._url_of(name)

    def drop_vhost(self, url: str) -> None:
        """Remove a vhost; done together with the next that is made, which costs nothing then."""
        self._dropped.append(url.rpartition("/")[2])

    def close(self) -> None:
        super().close()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
            undertaker.forget(self._mapper.pid)
            self._mapper = None

    def _start_mapper(self) -> None:
        # Left to itself, the node would start a port mapper that outlives it.
        if self._mapper is None:
            epmd = shutil.which("epmd")
            if epmd is None:
                raise RuntimeError(f"no Erlang here; {INSTALL}")
            with self.log.open("ab") as log:
                self._mapper = subprocess.Popen(
                    [epmd],
                    env=self.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            undertaker.watch(self._mapper.pid)

    def _url_of(self, vhost: str) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{vhost}"
