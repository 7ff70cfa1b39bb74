"""What every channel must do, whatever the far side does: the cases, and how each kind is driven.

A new adapter adds one ``Harness`` to ``HARNESSES``; test_contract.py then plays every case to it over real
sockets on loopback.
"""

import contextlib
import datetime
import gzip
import ipaddress
import socket
import ssl
import struct
import tempfile
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from compliance_bot.guardrails.http import GuardedSession
from workflows.channels import (
    Channel,
    DeliveryError,
    Means,
    OutcomeUnknown,
    Parcel,
    Receipt,
    Rejected,
    Token,
    TryLater,
)
from workflows.domain.content import Part

Talk = Callable[[socket.socket, threading.Event], None]


@dataclass(frozen=True, kw_only=True)
class Harness:
    """How to drive one kind of channel.

    ``config`` makes a configuration out of the origin ("http://host:port") of a server on loopback.
    ``accepted`` is the body of a reply (HTTP 200) that acknowledges a message. ``unreadable`` are bodies, by
    name, that look like the system's own but say nothing reliable.
    """

    config: Callable[[str], Mapping[str, Any]]
    secrets: Mapping[str, str]
    accepted: bytes
    unreadable: Mapping[str, bytes] = field(default_factory=dict)
    address: str = ""
    token: str = ""
    status: int = 200
    """Of a reply that acknowledges."""
    otherwise: Mapping[str, type[DeliveryError] | None] = field(default_factory=dict)
    """Cases that mean something else to this kind than to most; None: they acknowledge."""

    def secrets_at(self, origin: str) -> Mapping[str, str]:
        """The secrets, with the server's address in those that hold one."""
        return {name: value.replace("{origin}", origin) for name, value in self.secrets.items()}


_UNREADABLE_WECOM = {
    "no errcode": b'{"errmsg":"ok"}',
    "an errcode in a string": b'{"errcode":"0","errmsg":"ok"}',
    "an errcode that is null": b'{"errcode":null,"errmsg":"ok"}',
    "an errcode that is false": b'{"errcode":false,"errmsg":"ok"}',
    "an errcode with a fraction": b'{"errcode":0.0,"errmsg":"ok"}',
    "an errcode in a list": b'{"errcode":[0],"errmsg":"ok"}',
}

# Kinds that speak something else than HTTP have a suite of their own.
NO_HTTP = {"apprise", "email", "folder"}

HARNESSES = {
    "wecom_robot": Harness(
        config=lambda origin: {"base_url": origin},
        secrets={"key": "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"},
        accepted=b'{"errcode":0,"errmsg":"ok"}',
        unreadable=_UNREADABLE_WECOM,
    ),
    "wecom_app": Harness(
        config=lambda origin: {"base_url": origin, "corp_id": "ww5823bf96d3bd56c7", "agent_id": 1000002},
        secrets={"corp_secret": "s3cret-0123456789abcdefghijklmnopqrstuvwxyz"},
        accepted=b'{"errcode":0,"errmsg":"ok","msgid":"m1"}',
        unreadable=_UNREADABLE_WECOM,
        address="amy",
        token="T0KEN-of-the-test",
    ),
    "webhook": Harness(
        config=lambda origin: {},
        secrets={"url": "{origin}/hook", "signing_key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
        accepted=b'{"id":"in-17"}',
        address="desk-1",
        otherwise={"HTTP 201": None, "HTTP 204": None, "an empty body": None, "an empty JSON object": None},
    ),
    "feishu": Harness(
        config=lambda origin: {},
        secrets={"url": "{origin}/open-apis/bot/v2/hook/0f1e2d3c", "signing_key": "f3ishu-signing-key"},
        accepted=b'{"code":0,"msg":"success"}',
        unreadable={"a code in a string": b'{"code":"0"}', "a code that is false": b'{"code":false}'},
    ),
    "dingtalk": Harness(
        config=lambda origin: {},
        secrets={"url": "{origin}/robot/send?access_token=d1ngt0ken", "signing_key": "SECd1ngtalk-signing-key"},
        accepted=b'{"errcode":0,"errmsg":"ok"}',
        unreadable=_UNREADABLE_WECOM,
    ),
    "slack": Harness(
        config=lambda origin: {},
        secrets={"url": "{origin}/services/T000/B000/sl4ckw3bh00k"},
        accepted=b"ok",
        unreadable={"another word": b"okay"},
    ),
    "teams": Harness(
        config=lambda origin: {},
        secrets={"url": "{origin}/workflows/t34ms/triggers/manual"},
        accepted=b"",
        status=202,
        # It says nothing but its status; where there is no body, none can be damaged.
        otherwise=dict.fromkeys(
            ["an empty body", "truncated JSON", "gzip that is none", "gzip that is cut off", "half a reply"]
        ),
    ),
    "jira": Harness(
        config=lambda origin: {
            "base_url": origin,
            "user": "bot@corp.example",
            "project": "OPS",
            "issue_type": "Task",
        },
        secrets={"token": "j1ra-api-token"},
        accepted=b'{"id":"10000","key":"OPS-24"}',
        status=201,
        otherwise={"HTTP 201": None},
        unreadable={"no key": b'{"id":"10000"}', "a key that is a number": b'{"key":24}'},
    ),
    "github": Harness(
        config=lambda origin: {"base_url": origin, "repository": "corp/ops"},
        secrets={"token": "github_pat_0123456789"},
        accepted=b'{"number":1347}',
        status=201,
        otherwise={"HTTP 201": None},
        unreadable={"a number in a string": b'{"number":"1347"}', "a number that is true": b'{"number":true}'},
    ),
}


class OwnToken:
    """A token that nobody shares."""

    def __init__(self, value: str = "") -> None:
        self._value = value

    def get(self, fetch: Callable[[], Token]) -> str:
        self._value = self._value or fetch().value
        return self._value

    def renew(self, spent: str, fetch: Callable[[], Token]) -> str:
        self._value = fetch().value
        return self._value


def send(
    channel: Channel,
    part: Part,
    *,
    config: Mapping[str, Any],
    secrets: Mapping[str, str],
    http: GuardedSession,
    address: str = "",
    attachment: bytes = b"",
    token: str = "",
) -> Receipt:
    """One parcel over a line of its own."""
    given = means(config=config, secrets=secrets, http=http, token=token, attachment=attachment)
    with channel.connect(given) as sender:
        return sender(parcel(part, address))


def means(
    *,
    config: Mapping[str, Any],
    secrets: Mapping[str, str],
    http: GuardedSession,
    token: str = "",
    attachment: bytes = b"",
) -> Means:
    return Means(
        config=config, secrets=secrets, http=http, tokens=OwnToken(token), read_attachment=lambda sha256: attachment
    )


def parcel(part: Part, address: str) -> Parcel:
    return Parcel(part=part, addresses=(address,), key="5f2b6f0e-7e0c-5d0a-9f0e-0d2c3b4a5f60")


@dataclass(frozen=True, kw_only=True)
class Case:
    """What the far side does, and the one exception that is right.

    ``talk`` makes its behaviour on one connection. ``hangs``: the case lasts until the adapter's limits end
    it, so they are made short.
    """

    talk: Callable[[Harness], Talk]
    raises: type[DeliveryError]
    scheme: str = "http"
    hangs: bool = False


def read_request(connection: socket.socket) -> bytes:
    """One whole request: head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := connection.recv(65536)):
            return data
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    expected = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < expected and (chunk := connection.recv(65536)):
        body += chunk
    return head + b"\r\n\r\n" + body


def reply(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says(raw: bytes) -> Talk:
    """Read the request, send these bytes, close."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(raw)

    return talk


def reset(connection: socket.socket) -> None:
    """Close with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_after_request(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    reset(connection)


def reset_in_handshake(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(1)  # the beginning of the TLS greeting; nothing of the request can be on its way yet
    reset(connection)


def plain_text_to_tls(connection: socket.socket, over: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def silence(connection: socket.socket, over: threading.Event) -> None:
    read_request(connection)
    over.wait()


def silence_in_handshake(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def drip(harness: Harness) -> Talk:
    """A good reply, one byte every 50 ms: no single wait is long enough for a read timeout."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        for byte in reply(harness.status, harness.accepted):
            connection.sendall(bytes([byte]))
            if over.wait(0.05):
                return

    return talk


def unknown_certificate(harness: Harness) -> Talk:
    """TLS with a certificate that nobody has signed, and a good reply behind it."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        # A client that objects says so (an alert, SSLError) or just goes (OSError, its base).
        with contextlib.suppress(OSError), _server_context().wrap_socket(connection, server_side=True) as tls:
            says(reply(harness.status, harness.accepted))(tls, over)

    return talk


def _server_context() -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "server.pem"
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(private + certificate.public_bytes(pem))
        context.load_cert_chain(file)
    return context


def _status(status: int, raises: type[DeliveryError], *headers: str) -> Case:
    """The body is an acknowledgement: only the status says that it is worth nothing."""
    return Case(talk=lambda harness: says(reply(status, harness.accepted, *headers)), raises=raises)


def _body(body: Callable[[Harness], bytes], *headers: str) -> Case:
    """Not an answer that can be believed, and the request has been written."""
    return Case(talk=lambda harness: says(reply(harness.status, body(harness), *headers)), raises=OutcomeUnknown)


CASES: dict[str, Case] = {
    "HTTP 201": _status(201, OutcomeUnknown),
    "HTTP 204": Case(talk=lambda harness: says(b"HTTP/1.1 204 No Content\r\n\r\n"), raises=OutcomeUnknown),
    "HTTP 301": _status(301, Rejected, "Location: /elsewhere"),
    "HTTP 307": _status(307, Rejected, "Location: /elsewhere"),
    "HTTP 400": _status(400, Rejected),
    "HTTP 403": _status(403, Rejected),
    "HTTP 404": _status(404, Rejected),
    "HTTP 429": _status(429, TryLater),
    "HTTP 500": _status(500, OutcomeUnknown),
    "HTTP 502": _status(502, OutcomeUnknown),
    "HTTP 503": _status(503, OutcomeUnknown, "Retry-After: 1"),
    "an empty body": _body(lambda harness: b""),
    "JSON null": _body(lambda harness: b"null"),
    "a JSON list": _body(lambda harness: b"[]"),
    "a JSON string": _body(lambda harness: b'"x"'),
    "a JSON number": _body(lambda harness: b"0"),
    "an empty JSON object": _body(lambda harness: b"{}"),
    "truncated JSON": _body(lambda harness: harness.accepted[:-1]),
    "bytes that are no text": _body(lambda harness: b"\xff\xfe\x00{" + harness.accepted),
    "JSON nested 100 000 deep": _body(lambda harness: b"[" * 100_000),
    "a web page": _body(lambda harness: b"<html><body>Please sign in</body></html>"),
    "a 30 MB body": _body(lambda harness: harness.accepted + b" " * (30 * 2**20)),
    "a 30 MB body without a length": Case(
        talk=lambda harness: says(b"HTTP/1.1 200 OK\r\n\r\n" + harness.accepted + b" " * (30 * 2**20)),
        raises=OutcomeUnknown,
    ),
    "gzip that is none": _body(lambda harness: harness.accepted, "Content-Encoding: gzip"),
    "gzip that is cut off": _body(lambda harness: gzip.compress(harness.accepted)[:-20], "Content-Encoding: gzip"),
    "a gzip bomb": _body(lambda harness: gzip.compress(b" " * (30 * 2**20)), "Content-Encoding: gzip"),
    "half a reply": Case(
        talk=lambda harness: says(reply(harness.status, harness.accepted)[:-5]), raises=OutcomeUnknown
    ),
    "no HTTP": Case(talk=lambda harness: says(b"SSH-2.0-OpenSSH_9.6\r\n"), raises=OutcomeUnknown),
    "no reply at all": Case(talk=lambda harness: says(b""), raises=OutcomeUnknown),
    "a reset after the request": Case(talk=lambda harness: reset_after_request, raises=OutcomeUnknown),
    "silence after the request": Case(talk=lambda harness: silence, raises=OutcomeUnknown, hangs=True),
    "a slow drip": Case(talk=drip, raises=OutcomeUnknown, hangs=True),
    "a reset before the request": Case(talk=lambda harness: reset_in_handshake, raises=TryLater, scheme="https"),
    "silence before the request": Case(
        talk=lambda harness: silence_in_handshake, raises=TryLater, scheme="https", hangs=True
    ),
    "no TLS where TLS was expected": Case(talk=lambda harness: plain_text_to_tls, raises=TryLater, scheme="https"),
    "a certificate that nobody signed": Case(talk=unknown_certificate, raises=TryLater, scheme="https"),
}


def every_text_of(error: BaseException) -> str:
    """All that a log or a debugger could show of an exception and of what led to it."""
    texts = ["".join(traceback.format_exception(error))]
    chain: BaseException | None = error
    while chain is not None:
        texts += [str(chain), repr(chain), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(texts)
