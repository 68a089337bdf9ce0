"""Clients that send one byte a second, some of them never done with their headers, others never with their body."""

import asyncio
import contextlib
import threading
import time
from itertools import chain, repeat
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.servers.nginx_server import trusting

UNFINISHED_HEAD = b"POST /webhooks HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
WHOLE_HEAD = (
    b"POST /webhooks HTTP/1.1\r\nHost: localhost\r\nX-GCS-KeyId: slow\r\nX-GCS-Signature: slow\r\n"
    b"Content-Type: application/json\r\nContent-Length: 200000\r\n\r\n"
)
READY_WITHIN_SECONDS = 10.0


class SlowClients:
    """So many of them at a time; who is cut off comes again at once.

    Args:
        url: where to.
        count: how many.
    """

    def __init__(self, url: str, count: int):
        where = urlsplit(url)
        self._host, self._port = str(where.hostname), where.port
        self._tls = trusting() if where.scheme == "https" else None
        self._count = count
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="slow-clients")
        self.connected = 0
        self.fewest = count
        self.bytes_sent = 0

    def __enter__(self) -> Self:
        self._thread.start()
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while self.connected < self._count:
            assert time.monotonic() < deadline, f"only {self.connected} of {self._count} got through"
            time.sleep(0.05)
        self.fewest = self._count
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._leaving.set()
        self._thread.join()

    async def _run(self) -> None:
        # Every second of them has a body to be slow with.
        clients = [
            asyncio.create_task(self._come_again(WHOLE_HEAD if number % 2 else UNFINISHED_HEAD))
            for number in range(self._count)
        ]
        while not self._leaving.is_set():
            await asyncio.sleep(0.05)
            self.fewest = min(self.fewest, self.connected)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _come_again(self, head: bytes) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._drip(head)
            await asyncio.sleep(0.01)

    async def _drip(self, head: bytes) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        self.connected += 1
        cut = asyncio.create_task(reader.read())
        try:
            for piece in chain([head], repeat(b"a")):
                writer.write(piece)
                await writer.drain()
                self.bytes_sent += 1
                if (await asyncio.wait([cut], timeout=1.0))[0]:
                    return
        finally:
            self.connected -= 1
            cut.cancel()
            writer.close()
