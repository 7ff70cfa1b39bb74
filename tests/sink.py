"""``python -m tests.sink PORTFILE LOGFILE``: an HTTP server on loopback that takes every POST and says ``{}``.

It logs the Idempotency-Key of each, a line each, before it answers.

A process of its own, and as little work as an answer needs: what is measured against it is the sender.
"""

import asyncio
import re
import sys
from pathlib import Path
from typing import IO

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"idempotency-key: *([0-9a-f-]+)", re.IGNORECASE)
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class _Connection(asyncio.Protocol):
    def __init__(self, log: IO[bytes]) -> None:
        self._log = log

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._data = transport, b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            found, key = _LENGTH.search(self._data[:end]), _KEY.search(self._data[:end])
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            if key:
                self._log.write(key[1] + b"\n")
            self._transport.write(_REPLY)


async def _serve(told: Path, log: Path) -> None:
    with log.open("ab", buffering=0) as lines:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(lines), "127.0.0.1", 0, backlog=256)
        told.write_text(str(server.sockets[0].getsockname()[1]))
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), Path(sys.argv[2])))
