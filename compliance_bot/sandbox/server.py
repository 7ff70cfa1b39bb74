"""The sandbox on a socket: routing, and the rules of the door. 127.0.0.1 only."""

import errno
import html
import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from compliance_bot.sandbox import callbacks, news
from compliance_bot.sandbox.app import AppMessage, Company
from compliance_bot.sandbox.wecom import Clock, Fault, World, keep_media, read_faults

HOST = "127.0.0.1"
DEFAULT_BACK = "http://127.0.0.1:8000/"
BODY_BYTES = 21 * 1024 * 1024  # a file of 20 MB, and some
_NAMED = 5
HERE = Path(__file__).resolve().parent
FILES = {
    "/page.css": "text/css; charset=utf-8",
    "/page.js": "text/javascript; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)


class PortTaken(Exception):
    """Something else listens where the sandbox should."""


class Reply(NamedTuple):
    """An answer, before it is written to the socket."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = {}


def _json(document: object, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return Reply(status, "application/json; charset=utf-8", body, headers or {})


def _plain(status: int, sentence: str) -> Reply:
    return Reply(status, "text/plain; charset=utf-8", f"{sentence}\n".encode())


class _Server(ThreadingHTTPServer):
    # Threads are joined at the end, so stopping must wake every one of them: see Sandbox.stop.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, port: int, world: World, clock: Clock, back: str) -> None:
        self.world = world
        self.company = Company(clock=clock, show=self._show)
        self.clock = clock
        self.back = back
        self.stopping = threading.Event()
        self.connections: set[socket.socket] = set()
        self.connections_lock = threading.Lock()
        super().__init__((HOST, port), _Handler)
        self.url = f"http://{HOST}:{self.server_address[1]}"

    def _show(self, message: AppMessage) -> None:
        """The first few of those whom it was shown to stand for all."""
        self.world.show(
            f"app-{message.agent}",
            message.msgtype,
            message.content,
            mentioned=message.shown_to[:_NAMED],
            msgid=message.msgid,
            buttons=message.buttons,
        )

    def server_bind(self) -> None:
        # HTTPServer's own would ask the name service who 127.0.0.1 is; that can take seconds off-line.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.connections_lock:
            self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.connections_lock:
            self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every open connection, so that threads that wait for a next request come home."""
        with self.connections_lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the other side was faster
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is everyday life here; anything else is a bug and shows its traceback."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "sandbox"
    sys_version = ""
    timeout = 300  # an idle connection is given up
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(self._get)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:
        """Silence: addresses carry keys, and the page shows what happened."""

    def _answer(self, route: Callable[[bytes], Reply | None]) -> None:
        body = self._body()
        if isinstance(body, Reply):
            self.close_connection = True  # what follows on this connection is not a request
            reply: Reply | None = body
        elif not self._host_is_local():
            reply = _plain(403, "The sandbox answers to 127.0.0.1 and localhost only.")
        else:
            reply = route(body)
        if reply is not None:
            self._write(reply)

    def _body(self) -> bytes | Reply:
        if "Transfer-Encoding" in self.headers:
            return _plain(411, "Send a Content-Length.")
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdecimal()):
            return _plain(400, "Content-Length is not a number.")
        if int(length) > BODY_BYTES:
            return _plain(413, f"More than {BODY_BYTES} bytes.")
        return self.rfile.read(int(length))

    def _host_is_local(self) -> bool:
        # A page elsewhere can point its own name at 127.0.0.1 (DNS rebinding); the Host header gives it away.
        hosts = self.headers.get_all("Host", [])
        return len(hosts) == 1 and _LOCAL_HOST.fullmatch(hosts[0].strip()) is not None

    def _write(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in ({"Cache-Control": "no-store"} | HEADERS | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and reply.status != HTTPStatus.NOT_MODIFIED:
            self.wfile.write(reply.body)

    # GET

    def _get(self, _body: bytes) -> Reply:
        path, query = self._target()
        if path == "/":
            return self._page()
        if path == "/messages.json":
            return self._messages(query)
        if path == "/cgi-bin/gettoken":
            return _json(self.server.company.gettoken(query.get("corpid", ""), query.get("corpsecret", "")))
        if path in FILES:
            return Reply(200, FILES[path], (HERE / path[1:]).read_bytes())
        if path.startswith("/news/item/"):
            return self._item(path.removeprefix("/news/item/"))
        feed = news.feed(path, self.server.clock(), self.server.url)
        if feed is not None:
            return self._feed(feed)
        return _plain(404, "There is nothing here. The chat page is at /.")

    def _target(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, {name: values[-1] for name, values in parse_qs(parts.query).items()}

    def _page(self) -> Reply:
        language = "zh-CN" if _prefers_chinese(self.headers.get("Accept-Language", "")) else "en"
        text = (HERE / "page.html").read_text(encoding="utf-8")
        text = text.replace("{language}", language).replace("{back}", html.escape(self.server.back))
        return Reply(200, "text/html; charset=utf-8", text.encode(), {"Vary": "Accept-Language"})

    def _messages(self, query: dict[str, str]) -> Reply:
        numbers = {name: query.get(name, "") for name in ("after", "newest")}
        if not all(re.fullmatch(r"[0-9]{0,12}", value) for value in numbers.values()):
            return _plain(400, "after and newest are whole numbers.")
        newest = int(numbers["newest"]) if numbers["newest"] else None
        found = self.server.world.messages(after=int(numbers["after"] or 0), newest=newest)
        last = str(self.server.world.last)  # lets the page notice a world that began anew
        return _json([message.as_json() for message in found], headers={"X-Sandbox-Last": last})

    def _item(self, name: str) -> Reply:
        found = news.find(name, self.server.clock())
        if found is None:
            return _plain(404, "This item was never published.")
        return Reply(200, "text/html; charset=utf-8", news.page(found, self.server.back).encode())

    def _feed(self, feed: news.Feed) -> Reply:
        headers = {
            "ETag": feed.etag,
            "Last-Modified": format_datetime(feed.modified, usegmt=True),
            "Cache-Control": "no-cache",
        }
        status = 304 if self._is_known(feed) else 200
        return Reply(status, feed.content_type, feed.body, headers)

    def _is_known(self, feed: news.Feed) -> bool:
        tags = self.headers.get("If-None-Match")
        if tags is not None:  # it outranks the date
            return any(tag.strip().removeprefix("W/") in (feed.etag, "*") for tag in tags.split(","))
        try:
            since = parsedate_to_datetime(self.headers.get("If-Modified-Since", ""))
        except ValueError:
            return False
        return feed.modified <= (since if since.tzinfo else since.replace(tzinfo=UTC))

    # POST

    def _post(self, body: bytes) -> Reply | None:
        path, query = self._target()
        if path == "/cgi-bin/webhook/send":
            return self._accept(lambda: self.server.world.send(query.get("key", ""), body))
        if path in {f"/cgi-bin/message/{call}" for call in ("send", "recall", "update_template_card")}:
            call, token = path.removeprefix("/cgi-bin/"), query.get("access_token", "")
            return self._accept(lambda: self.server.company.call(call, token, body))
        if path == "/cgi-bin/media/upload":
            content_type = self.headers.get("Content-Type", "")
            token, kind = query.get("access_token", ""), query.get("type", "")
            return _json(self.server.company.upload(token, kind, lambda kind: keep_media(kind, body, content_type)))
        if path == "/cgi-bin/webhook/upload_media":
            kind, content_type = query.get("type", ""), self.headers.get("Content-Type", "")
            return _json(self.server.world.upload(query.get("key", ""), kind, body, content_type))
        if path in {"/faults", "/callback", "/click"}:
            return self._order(path, body)
        return _plain(404, "There is nothing here. Robots send to /cgi-bin/webhook/send?key=KEY.")

    def _accept(self, send: Callable[[], dict[str, Any]]) -> Reply | None:
        """The answer to a send, or the misfortune that was planned for it."""
        fault = self.server.world.take_fault()
        return _json(send()) if fault is None else self._misfortune(fault, send)

    def _misfortune(self, fault: Fault, send: Callable[[], dict[str, Any]]) -> Reply | None:
        if fault.kind == "errcode":
            return _json(fault.answer())
        if fault.kind == "status":
            return _plain(fault.status, "A proxy in front of the service is unwell.")
        answer = None if fault.kind == "reset_before" else send()
        if fault.kind == "hang" and not self.server.stopping.wait(fault.seconds):
            return _json(answer)
        self._reset()
        return None

    def _reset(self) -> None:
        """Close without a goodbye: the other side reads ECONNRESET, as from a broken network."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _order(self, path: str, body: bytes) -> Reply:
        """What the person in front of the sandbox wants of it."""
        # A foreign web page can post a form here, but not JSON without asking first (CORS).
        if self.headers.get_content_type() != "application/json":
            return _plain(415, "Send Content-Type: application/json.")
        orders = {"/faults": self._plan_faults, "/callback": self._call_back, "/click": self._click}
        try:
            return orders[path](body)
        except ValueError as problem:
            return _json({"error": str(problem)}, status=400)
        except OSError as problem:
            return _json({"error": f"nobody answers at the callback's address ({problem})"}, status=502)

    def _plan_faults(self, body: bytes) -> Reply:
        faults = read_faults(body)
        self.server.world.plan_faults(faults)
        return _json({"planned": len(faults)})

    def _call_back(self, body: bytes) -> Reply:
        self.server.company.calls_back(callbacks.read(body))
        return _json({"callback": "set"})

    def _click(self, body: bytes) -> Reply:
        try:
            pressed = json.loads(body)
            msgid, user, key = (str(pressed[name]) for name in ("msgid", "user", "key"))
        except (ValueError, KeyError, TypeError, RecursionError) as problem:
            raise ValueError("the body must have msgid, user and key") from problem
        return _json({"answered": self.server.company.click(msgid, user, key)})


def _prefers_chinese(accepted: str) -> bool:
    """Whether Chinese stands before English in an Accept-Language header (browsers list by preference)."""
    for choice in accepted.lower().split(","):
        language = choice.split(";")[0].strip().split("-")[0]
        if language in ("zh", "en"):
            return language == "zh"
    return False


class Sandbox:
    """A running sandbox."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="sandbox", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def wecom(self) -> World:
        return self._server.world

    @property
    def company(self) -> Company:
        return self._server.company

    def stop(self) -> None:
        """Take no more connections, end the open ones (sends that hang, too), close the journal."""
        if self._server.stopping.is_set():
            return
        self._server.stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()
        self._server.world.close()


def start(
    port: int,
    data_dir: Path | str,
    *,
    clock: Clock = time.time,
    rate_limit: bool = True,
    back: str = DEFAULT_BACK,
) -> Sandbox:
    """Start a sandbox in threads of this process; port 0 takes a free one."""
    world = World(Path(data_dir), clock=clock, rate_limit=rate_limit)
    try:
        server = _Server(port, world, clock, back)
    except OSError as problem:
        world.close()
        if problem.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise PortTaken(
            f"Port {port} on {HOST} cannot be used ({problem.strerror}). Stop what listens there, "
            f"or choose another port with --port (0 takes a free one)."
        ) from problem
    return Sandbox(server)
