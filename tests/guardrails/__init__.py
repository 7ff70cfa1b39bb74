"""Real servers on loopback, for tests of whatever goes out over HTTP."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a site replies. Content-Length is added unless the headers name one."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request as it arrived; ``peer`` is the same for requests on the same connection."""

    method: str
    path: str
    headers: Any
    body: bytes
    peer: tuple[str, int]


@dataclass
class Site:
    """A website; ``pages`` may be changed while it runs, and what is missing there is a 404."""

    address: str
    pages: dict[str, Answer]
    seen: list[Seen] = field(default_factory=list)

    def url(self, path: str = "/") -> str:
        return f"http://{self.address}{path}"


@contextlib.contextmanager
def website(pages: dict[str, Answer] | None = None) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            site.seen.append(
                Seen(
                    method=self.command,
                    path=self.path,
                    headers=self.headers,
                    body=body,
                    peer=self.client_address,
                )
            )
            page = site.pages.get(self.path.partition("?")[0], Answer(status=404))
            self.send_response(page.status)
            for name, value in {"Content-Length": str(len(page.body)), **page.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client has read enough
                self.wfile.write(page.body)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site = Site(f"127.0.0.1:{server.server_port}", dict(pages or {}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def line(talk: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """A server that does whatever ``talk`` does with each connection; yields "host:port".

    The event is set when the test is over; ``talk`` waits on it instead of sleeping.
    """
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):  # the client may go at any time
            talk(connection, over)

    def accept() -> None:
        while not over.is_set():
            connection, _ = listener.accept()
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        with socket.create_connection(listener.getsockname()):  # wakes the acceptor
            acceptor.join()
        for thread in threads:
            thread.join()
        listener.close()
