"""How `payhook up` listens."""

import socket
from typing import Any

import pytest
from flask import Flask

from ingress import embedded


def test_a_name_with_several_addresses_is_one_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """On its first address, read by the strict parser: waitress's server for several has neither port nor parser."""
    found = socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)
    asked = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **more: Any) -> Any:
        return [*found, *found] if host == "several.test" else asked(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    server = embedded._server(Flask("ingress"), "several.test", 0)

    assert int(server.effective_port) > 0
    assert server.channel_class.parser_class is embedded._StrictParser
    server.close()
    server.task_dispatcher.shutdown()


def test_a_name_that_is_no_address_is_told() -> None:
    """One sentence, with what to change."""
    with pytest.raises(SystemExit, match=r"cannot listen on nowhere\.invalid:0 \(.+\); choose another with --host"):
        embedded._server(Flask("ingress"), "nowhere.invalid", 0)
