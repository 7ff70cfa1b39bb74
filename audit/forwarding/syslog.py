"""RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425).

Syslog has no acknowledgement. Over TCP and TLS one connection carries one batch, and the batch counts as taken when
the receiver has read to its end and closed too. UDP may lose messages, and nobody is told.
"""

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from django.conf import settings

from audit.forwarding.batch import Batch, NotTaken
from audit.models import AuditEvent

_AUDIT = 13  # facility "log audit"
_ERROR, _WARNING, _INFORMATIONAL = 3, 4, 6
_SEVERITY = {
    AuditEvent.Outcome.SUCCESS: _INFORMATIONAL,
    AuditEvent.Outcome.REFUSED: _WARNING,
    AuditEvent.Outcome.FAILURE: _ERROR,
}
_SD_ID = "audit@32473"
_BOM = "\ufeff"
_DATAGRAM = 8 * 1024
_CONNECT_SECONDS = 10.0
_BATCH_SECONDS = 20.0


def send(batch: Batch) -> None:
    """Hand one batch to the receiver at AUDIT_SYSLOG. Raises NotTaken."""
    place = urlsplit(settings.AUDIT_SYSLOG)
    address = (str(place.hostname), int(place.port or 0))
    try:
        if place.scheme == "udp":
            _send_datagrams(address, messages(batch))
        else:
            data = b"".join(b"%d %b" % (len(message), message) for message in messages(batch))
            _send_stream(address, data, secured=_tls() if place.scheme == "tls" else None)
    except OSError as error:  # and so is a TimeoutError or an ssl.SSLError
        raise NotTaken(f"{settings.AUDIT_SYSLOG} did not take the messages: {error}.") from error


def messages(batch: Batch) -> Iterator[bytes]:
    """One message an event; and one that says how many events of the seal are gone, if any are."""
    for event in batch.events:
        yield _event_message(event, batch.seal.n)
    if batch.gone:
        values = {"seal": str(batch.seal.n), "gone": str(batch.gone)}
        text = f"{batch.gone} events of this seal are no longer in the trail."
        yield _message(_WARNING, batch.seal.sealed_at, "trail.gap", values, text)


def _event_message(event: AuditEvent, seal_n: int) -> bytes:
    values = {
        "who": event.who_label or event.who_kind,
        "on_behalf_of": event.on_behalf_of,
        "request_id": str(event.request_id),
        "event_id": str(event.event_id),
        "object": f"{event.target_type} {event.target_id}".strip(),
        "outcome": event.outcome,
        "ip": event.ip or "",
        "seal": str(seal_n),
    }
    text = ": ".join(part for part in (event.what_label, event.target_label, event.why) if part)
    return _message(_SEVERITY[AuditEvent.Outcome(event.outcome)], event.at, event.what, values, text)


def _message(severity: int, at: datetime, kind: str, values: Mapping[str, str], text: str) -> bytes:
    timestamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    header = f"<{_AUDIT * 8 + severity}>1 {timestamp} {_hostname()} compliance-bot - {kind[:32]}"
    data = " ".join([_SD_ID, *(f'{name}="{_escaped(value)}"' for name, value in values.items() if value)])
    return f"{header} [{data}] {_BOM}{_one_line(text)}".encode()


def _one_line(text: str) -> str:
    """Without line breaks, controls and direction overrides: nobody who reads lines takes one message for two."""
    return "".join(character if character.isprintable() else " " for character in text)


def _escaped(value: str) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", _one_line(value))


def _hostname() -> str:
    return re.sub(r"[^!-~]", "", socket.gethostname())[:255] or "-"


def _cut(message: bytes, limit: int) -> bytes:
    """At most ``limit`` bytes, and no half of a character."""
    return message if len(message) <= limit else message[:limit].decode("utf-8", "ignore").encode()


def _tls() -> ssl.SSLContext:
    """Verifies the receiver by the system's certificate authorities, or by the ones in AUDIT_SYSLOG_CA."""
    return ssl.create_default_context(cafile=settings.AUDIT_SYSLOG_CA or None)


def _send_datagrams(address: tuple[str, int], datagrams: Iterator[bytes]) -> None:
    family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as line:
        line.settimeout(_CONNECT_SECONDS)
        line.connect(place)
        for datagram in datagrams:
            line.send(_cut(datagram, _DATAGRAM))


def _send_stream(address: tuple[str, int], data: bytes, *, secured: ssl.SSLContext | None) -> None:
    deadline = time.monotonic() + _BATCH_SECONDS
    with socket.create_connection(address, timeout=_CONNECT_SECONDS) as line:
        if secured is None:
            _write(line, data, deadline)
            line.shutdown(socket.SHUT_WR)
            _read_to_end(line, deadline)
        else:
            with secured.wrap_socket(line, server_hostname=address[0]) as tls:
                _write(tls, data, deadline)
                _say_goodbye(tls, deadline)


def _write(line: socket.socket, data: bytes, deadline: float) -> None:
    waiting = memoryview(data)
    while waiting:
        _bound(line, deadline)
        waiting = waiting[line.send(waiting) :]


def _read_to_end(line: socket.socket, deadline: float) -> None:
    """Until the receiver has closed; one that goes with bytes unread resets the connection instead."""
    _bound(line, deadline)
    while line.recv(4096):
        _bound(line, deadline)


def _say_goodbye(tls: ssl.SSLSocket, deadline: float) -> None:
    """Close TLS in both directions; many a receiver just closes the connection after it has read ours."""
    _bound(tls, deadline)
    try:
        tls.unwrap()
    except ssl.SSLEOFError:
        return


def _bound(line: socket.socket, deadline: float) -> None:
    """Each wait, and all of them together."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"it took longer than {_BATCH_SECONDS:g} seconds")
    line.settimeout(left)
