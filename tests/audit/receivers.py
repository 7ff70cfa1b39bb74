"""Stand-ins for receivers of syslog: real sockets on loopback, and what they were sent."""

import contextlib
import datetime
import ipaddress
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PATIENCE = 20.0


@dataclass
class Receiver:
    """A syslog receiver. ``takes``: the bytes of each whole connection, or of each datagram."""

    address: str
    takes: queue.Queue[bytes] = field(default_factory=queue.Queue)

    def take(self) -> bytes:
        """The next connection's bytes, or the next datagram; fails where none comes."""
        return self.takes.get(timeout=_PATIENCE)


def frames(data: bytes) -> list[bytes]:
    """The messages of one connection, by their octet counts."""
    found = []
    while data:
        count, _, data = data.partition(b" ")
        found.append(data[: int(count)])
        assert len(found[-1]) == int(count)
        data = data[int(count) :]
    return found


@contextlib.contextmanager
def over_tcp(*, secured: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Reads each connection to its end and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    scheme = "tls" if secured else "tcp"
    receiver = Receiver(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")

    def serve() -> None:
        while True:
            plain, _ = listener.accept()
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                line = stack.enter_context(plain)
                line.settimeout(_PATIENCE)
                if secured:
                    line = stack.enter_context(secured.wrap_socket(line, server_side=True))
                data = _read_all(line)
                if data == _OVER:
                    return
                receiver.takes.put(data)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield receiver
    finally:
        _end(listener, secured)
        thread.join()
        listener.close()


_OVER = b"over"


def _read_all(line: socket.socket) -> bytes:
    data = b""
    while some := line.recv(65536):
        data += some
    return data


def _end(listener: socket.socket, secured: ssl.SSLContext | None) -> None:
    with socket.create_connection(listener.getsockname()) as line:
        if not secured:
            line.sendall(_OVER)
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(line) as tls:
            tls.sendall(_OVER)
            with contextlib.suppress(OSError):
                tls.unwrap()


@contextlib.contextmanager
def over_udp() -> Iterator[Receiver]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.bind(("127.0.0.1", 0))
        receiver = Receiver(f"udp://127.0.0.1:{line.getsockname()[1]}")

        def serve() -> None:
            while (data := line.recv(65536)) != _OVER:
                receiver.takes.put(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield receiver
        finally:
            line.sendto(_OVER, line.getsockname())
            thread.join()


def certified(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server on 127.0.0.1 needs to speak TLS, and the file of the authority that vouches for it."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _issue("Test authority", authority_key, None)
    certificate = _issue("127.0.0.1", key, (authority.subject, authority_key))
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    server_file, authority_file = folder / "server.pem", folder / "authority.pem"
    server_file.write_bytes(private + certificate.public_bytes(pem))
    authority_file.write_bytes(authority.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_file)
    return context, authority_file


def _issue(
    name: str, key: ec.EllipticCurvePrivateKey, by: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = by or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(signing_key, hashes.SHA256())
    )
