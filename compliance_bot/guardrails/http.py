"""The only way out: every outgoing HTTP request of the system is made by a ``GuardedSession``.

It dials public addresses only, or those that were allowed by name; it reads at most so many bytes for at most
so many seconds; it never retries, keeps no cookies, and knows no proxy or netrc of the environment.

The address is checked where it is dialled (``_dial``), so nothing can change between the check and the
connection, and the connection stays bound to the host's name for TLS and for the Host header.
"""

import contextlib
import json
import logging
import os
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import IncompleteRead
from importlib import metadata
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError
from urllib3.filepost import encode_multipart_formdata
from urllib3.util import Url, parse_url

from compliance_bot.guardrails.addresses import Allowed, address_of, is_public, odd_host

# At DEBUG urllib3 logs the path and query of each request, and a robot's key is in the query.
logging.getLogger("urllib3").setLevel(logging.INFO)

try:
    _VERSION = metadata.version("compliance-bot")
except metadata.PackageNotFoundError:  # run from a checkout
    _VERSION = "checkout"
USER_AGENT = f"ComplianceBot/{_VERSION} (+compliance digest)"

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
_RATIO_FROM = 2**20  # bytes: small bodies may compress as well as they like
_CHUNK = 64 * 1024
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_TO_ANOTHER_HOST = frozenset({"accept", "accept-language", "if-none-match", "if-modified-since"})

_TIMEOUTS = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_TLS_ERRORS = (requests.exceptions.SSLError, urllib3.exceptions.SSLError, ssl.SSLError)


class OutboundError(Exception):
    """No usable reply. The message is a sentence for a person and names scheme and host only.

    ``code`` is short and stable: url_refused, scheme_refused, address_refused, redirect_refused, dns,
    connect, tls, timeout, deadline, reset, bad_reply, too_large. ``request_written``: the far side may have
    seen the whole request (so a send may have happened); False when it certainly has not.
    """

    def __init__(self, code: str, message: str, *, request_written: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.request_written = request_written


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Seconds and bytes. ``total`` covers everything: name look-up, redirects, the last byte.

    ``max_bytes`` counts after decompression; ``max_ratio`` is how many bytes one compressed byte may become.
    """

    connect: float = 5
    read: float = 10
    total: float = 20
    max_bytes: int = 15 * 2**20
    max_ratio: int = 100
    max_redirects: int = 5


_DEFAULT = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole reply, of any status. ``headers`` ignore case; ``url`` is where redirects ended."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str

    def text(self) -> str:
        """The body in the charset that the Content-Type names, else UTF-8; broken bytes become U+FFFD."""
        found = _CHARSET.search(self.headers.get("Content-Type", ""))
        try:
            return self.body.decode(found[1] if found else "utf-8", errors="replace")
        except LookupError:  # unknown, or not a text encoding
            return self.body.decode("utf-8", errors="replace")

    def json(self) -> Any:
        """Raises ValueError where the body is not JSON."""
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("the JSON is nested too deeply") from None


class GuardedSession:
    """Keeps connections open between calls; for use from one thread. Close it, or use it in ``with``.

    ``allow``: what may be dialled though it is not public, each "ip", "ip:port", "host:port" or a network
    in CIDR notation.
    """

    def __init__(self, *, allow: Sequence[str] = ()) -> None:
        self._allowed = Allowed(allow)
        self._adapter = _Adapter()

    def get(self, url: str, *, headers: Mapping[str, str] | None = None, limits: Limits = _DEFAULT) -> Reply:
        """Follow redirects, each checked anew; from https to http never. Raises OutboundError."""
        with self._call(limits) as call:
            sent = dict(headers or {})
            for _ in range(limits.max_redirects + 1):
                reply = self._exchange(call, _prepared("GET", url, sent, None))
                location = reply.headers.get("Location")
                if reply.status not in REDIRECTS or not location:
                    return reply
                url, sent = _redirected(reply.url, location, sent)
            raise OutboundError("redirect_refused", f"{_place(url)} redirects more than {limits.max_redirects} times.")

    def post_json(
        self,
        url: str,
        payload: object,
        *,
        headers: Mapping[str, str] | None = None,
        limits: Limits = _DEFAULT,
    ) -> Reply:
        """POST ``payload`` once. A redirect is not followed: its 3xx reply is returned as it is."""
        body = json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
        return self.post(
            url, body, headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})}, limits=limits
        )

    def post_file(self, url: str, field: str, name: str, content: bytes, *, limits: Limits = _DEFAULT) -> Reply:
        """POST one file in a form, once, as a browser does."""
        body, content_type = encode_multipart_formdata({field: (name, content)})
        return self.post(url, body, headers={"Content-Type": content_type}, limits=limits)

    def post(self, url: str, body: bytes, *, headers: Mapping[str, str], limits: Limits = _DEFAULT) -> Reply:
        """POST ``body`` once. A redirect is not followed: its 3xx reply is returned as it is."""
        with self._call(limits) as call:
            return self._exchange(call, _prepared("POST", url, headers, body))

    def close(self) -> None:
        self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _call(self, limits: Limits) -> Iterator["_Call"]:
        call = _Call(limits, self._allowed)
        token = _current.set(call)
        try:
            yield call
        finally:
            _current.reset(token)
            call.finish()

    def _exchange(self, call: "_Call", request: requests.PreparedRequest) -> Reply:
        """One request, one reply. Library errors quote the URL with its query, so none is chained."""
        url = request.url or ""
        call.place, call.written = _place(url), False
        failure = call.too_late() if call.expired() else None
        try:
            if failure is None:
                timeout = (call.limits.connect, call.limits.read)
                with contextlib.closing(self._adapter.send(request, stream=True, timeout=timeout)) as response:
                    reply = _read(call, response, url)
                if not call.expired():
                    return reply
                failure = call.too_late()
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            failure = call.too_late() if call.expired() else call.explain(error)
        raise failure


class _Call:
    """One call on its way: its limits, how far it got, and the watchdog that ends it.

    Socket timeouts start anew with each byte, so they cannot bound a whole reply. At ``total`` the watchdog
    shuts the connection down, and whatever was waiting on it (a handshake, headers, a body) wakes up.
    """

    def __init__(self, limits: Limits, allowed: Allowed) -> None:
        self.limits = limits
        self.allowed = allowed
        self.place = ""
        self.written = False
        self._ends = time.monotonic() + limits.total
        self._lock = threading.Lock()
        self._line: socket.socket | None = None
        self._watchdog = threading.Timer(limits.total, self._cut)
        self._watchdog.daemon = True
        self._watchdog.start()

    def remaining(self) -> float:
        return self._ends - time.monotonic()

    def expired(self) -> bool:
        return self.remaining() <= 0

    def hold(self, line: socket.socket) -> None:
        """Watch this connection: by a duplicate, as TLS replaces the socket and http.client closes early."""
        with self._lock:
            self._release()
            self._line = socket.socket(fileno=os.dup(line.fileno()))
        if self.expired():
            raise self.too_late()

    def finish(self) -> None:
        self._watchdog.cancel()
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _cut(self) -> None:
        with self._lock:
            if self._line is not None:
                with contextlib.suppress(OSError):  # already closed by the far side
                    self._line.shutdown(socket.SHUT_RDWR)

    def error(self, code: str, message: str) -> OutboundError:
        return OutboundError(code, f"{self.place} {message}", request_written=self.written)

    def too_late(self) -> OutboundError:
        return self.error("deadline", f"took longer than {self.limits.total:g} seconds altogether.")

    def explain(self, error: Exception) -> OutboundError:
        causes = list(_causes(error))
        if any(isinstance(cause, _TIMEOUTS) for cause in causes):
            return self.error("timeout", "did not answer in time.")
        if any(isinstance(cause, _TLS_ERRORS) for cause in causes):
            return self.error("tls", "could not be reached over a trusted encrypted connection.")
        if not self.written:
            return self.error("connect", "could not be reached.")
        if any(isinstance(cause, ConnectionError | IncompleteRead) for cause in causes):
            return self.error("reset", "broke off the connection before its reply was complete.")
        return self.error("bad_reply", "sent a reply that cannot be read.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


_current: ContextVar[_Call] = ContextVar("outgoing call")


class _GuardedConnection(HTTPConnection):
    """Dials by ``_dial``, and notes the moment from which the far side may have seen the request."""

    def _new_conn(self) -> socket.socket:
        return _dial(_current.get(), self._dns_host, self.port, self.socket_options)

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is None:
            self.connect()
        call = _current.get()
        call.hold(self.sock)
        call.written = True
        super().request(*args, **kwargs)


class _GuardedTLSConnection(_GuardedConnection, HTTPSConnection):
    """The same over TLS: the certificate is checked against the host's name, not its address."""


class _GuardedPool(HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _GuardedTLSPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLSConnection


class _Adapter(HTTPAdapter):
    """Used without a requests.Session, which would follow environment, netrc and cookies, and which reads the
    body of a redirect without any limit."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _GuardedPool, "https": _GuardedTLSPool}


def _dial(call: _Call, host: str, port: int, options: Any) -> socket.socket:
    """Connect to an address of ``host``, after all of them were found fit to be dialled."""
    places = _look_up(call, host, port)
    for _, sockaddr in places:
        address = address_of(sockaddr[0])
        if not (is_public(address) or call.allowed.covers(host, address, port)):
            raise call.error("address_refused", f"leads to {address}, which is not a public address.")
    last: OSError | None = None
    for family, sockaddr in places:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            for option in options or ():
                sock.setsockopt(*option)
            sock.settimeout(max(0.001, min(call.limits.connect, call.remaining())))
            sock.connect(sockaddr)
            call.hold(sock)
        except OSError as error:
            sock.close()
            last = error
        except OutboundError:
            sock.close()
            raise
        else:
            return sock
    raise last or call.error("dns", "has no address.")


def _look_up(call: _Call, host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    """The addresses of ``host``; asked in a thread of its own, as a look-up cannot be given a timeout."""
    answers: queue.SimpleQueue[list[Any] | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):  # no such name; or none that the DNS could hold
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answers.get(timeout=max(0.0, min(call.limits.connect, call.remaining())))
    except queue.Empty:
        raise call.error("dns", "has a name that could not be looked up in time.") from None
    if not found:
        raise call.error("dns", "has a name that cannot be found.")
    return [(entry[0], entry[4]) for entry in found]


def _prepared(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> requests.PreparedRequest:
    """The request in its canonical form; refuses addresses that two readers could take differently."""
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise OutboundError("url_refused", "The address contains a space, a backslash or the like.")
    if not (start := re.match(r"(https?)://([^/?#]*)", url, re.IGNORECASE)):
        raise OutboundError("scheme_refused", "The address does not begin with http:// or https://.")
    if "@" in start[2]:
        raise OutboundError("url_refused", "The address contains a user name or a password.")
    fixed = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip, deflate"}
    merged = CaseInsensitiveDict({"Accept": "*/*", **headers, **fixed})
    try:
        request = requests.Request(method, url, headers=merged, data=body).prepare()
        parts = parse_url(request.url or "")
        for value in merged.values():
            value.encode("latin-1")
    except (requests.RequestException, HTTPError, ValueError):
        parts = Url()
    if parts.scheme != start[1].lower() or parts.auth or not parts.host or odd_host(parts.host):
        raise OutboundError("url_refused", "The address or a header of the request is not valid.")
    return request


def _redirected(url: str, location: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Where to go on, and with which headers."""
    with contextlib.suppress(UnicodeError):  # http.client reads headers as Latin-1
        location = location.encode("latin-1").decode("utf-8")
    try:
        target = urljoin(url, location.strip())
        old, new = parse_url(url), parse_url(target)
    except (ValueError, HTTPError):
        raise OutboundError("redirect_refused", f"{_place(url)} redirects to an invalid address.") from None
    if old.scheme == "https" and new.scheme == "http":
        raise OutboundError("redirect_refused", f"{_place(url)} redirects from https to http.")
    if (old.scheme, old.host, old.port) != (new.scheme, new.host, new.port):
        headers = {name: value for name, value in headers.items() if name.lower() in _TO_ANOTHER_HOST}
    return target, headers


def _place(url: str) -> str:
    """Scheme, host and port: all of a URL that a message may tell (paths and queries carry robots' keys)."""
    try:
        parts = parse_url(url)
    except HTTPError:
        return "The address"
    return f"{parts.scheme}://{parts.netloc}"


def _read(call: _Call, response: requests.Response, url: str) -> Reply:
    """The whole body, decompressed, within the limits."""
    headers = response.headers
    encodings = {part.strip().lower() for part in headers.get("Content-Encoding", "").split(",")}
    if not encodings <= _ENCODINGS:
        raise call.error("bad_reply", "sent a reply in a compression that was not asked for.")
    declared = headers.get("Content-Length", "")
    body = bytearray()
    if declared.isdecimal() and int(declared) > call.limits.max_bytes:
        raise _too_large(call)
    while chunk := response.raw.read(_CHUNK, decode_content=True):
        body += chunk
        if len(body) > call.limits.max_bytes:
            raise _too_large(call)
        if len(body) > _RATIO_FROM and len(body) > call.limits.max_ratio * max(1, response.raw.tell()):
            raise call.error("too_large", "sent a reply that unpacks to a suspicious size.")
    return Reply(status=response.status_code, headers=headers, body=bytes(body), url=url)


def _too_large(call: _Call) -> OutboundError:
    return call.error("too_large", f"sent a reply of more than {call.limits.max_bytes} bytes.")
