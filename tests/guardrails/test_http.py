import contextlib
import datetime
import gzip
import socket
import ssl
import struct
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from compliance_bot.guardrails.http import GuardedSession, Limits, OutboundError, Reply
from tests.guardrails import Answer, Site, line, website

SHORT = Limits(connect=0.3, read=0.3, total=0.6)
Talk = Callable[[socket.socket, threading.Event], None]


@pytest.fixture
def site() -> Iterator[Site]:
    with website() as running:
        yield running


@pytest.fixture
def session(site: Site) -> Iterator[GuardedSession]:
    with GuardedSession(allow=[site.address]) as opened:
        yield opened


def refused(url: str, *allow: str, limits: Limits = SHORT) -> OutboundError:
    with GuardedSession(allow=allow) as session, pytest.raises(OutboundError) as caught:
        session.get(url, limits=limits)
    return caught.value


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names lead to ``answers``, one list a look-up (the last for all that follow). Returns who asked."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (address, port))
            for family, address in zip(families, addresses, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


# What is read


def test_a_reply_has_status_headers_body_and_address(site: Site, session: GuardedSession) -> None:
    site.pages["/a"] = Answer(status=418, headers={"X-Kind": "pot"}, body="茶".encode())
    reply = session.get(site.url("/a?k=1"))
    assert (reply.status, reply.headers["x-kind"], reply.text()) == (418, "pot", "茶")
    assert (reply.url, site.seen[0].path) == (site.url("/a?k=1"), "/a?k=1")


def test_the_text_follows_the_charset_of_the_header(site: Site, session: GuardedSession) -> None:
    site.pages["/"] = Answer(headers={"Content-Type": "text/plain; charset=GB18030"}, body="公告".encode("gb18030"))
    assert session.get(site.url()).text() == "公告"


@pytest.mark.parametrize("charset", ["nonsense", "hex"])
def test_an_unknown_charset_is_read_as_utf8(charset: str) -> None:
    reply = Reply(status=200, headers={"Content-Type": f"text/plain; charset={charset}"}, body="é".encode(), url="")
    assert reply.text() == "é"


@pytest.mark.parametrize("body", [b"<html>", b"\xff\xfe\xff", b"[" * 200_000])
def test_what_is_not_json_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reply(status=200, headers={}, body=body, url="").json()


def test_json_is_posted_in_utf8_as_it_reads(site: Site, session: GuardedSession) -> None:
    site.pages["/send"] = Answer(body=b'{"errcode": 0}')
    assert session.post_json(site.url("/send?key=K"), {"text": "监管"}).json() == {"errcode": 0}
    request = site.seen[0]
    assert (request.method, request.body) == ("POST", '{"text": "监管"}'.encode())
    assert request.headers["Content-Type"] == "application/json; charset=utf-8"


def test_requests_say_who_they_are_whatever_the_caller_sets(site: Site, session: GuardedSession) -> None:
    session.get(site.url(), headers={"user-agent": "curl", "accept": "text/xml"})
    assert site.seen[0].headers["User-Agent"].startswith("ComplianceBot/")
    assert site.seen[0].headers.get_all("Accept") == ["text/xml"]


def test_connections_are_used_again(site: Site, session: GuardedSession) -> None:
    site.pages["/"] = Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"a" * 5000))
    for _ in range(3):
        session.get(site.url())
    session.post_json(site.url(), {})
    assert len({request.peer for request in site.seen}) == 1


def test_cookies_netrc_and_proxies_are_ignored(
    site: Site, session: GuardedSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    site.pages["/"] = Answer(headers={"Set-Cookie": "session=1; Path=/"})
    session.get(site.url())
    session.get(site.url())
    assert "Authorization" not in site.seen[1].headers
    assert "Cookie" not in site.seen[1].headers


# Where it may go


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1",  # noqa: S104
        "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1",
        "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, [address])
    error = refused("https://name.example/?key=K")
    assert (error.code, error.request_written) == ("address_refused", False)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://localhost/", "address_refused"),
        ("http://127.0.0.1/", "address_refused"),
        ("http://0.0.0.0/", "address_refused"),
        ("http://169.254.169.254/latest/meta-data/", "address_refused"),
        ("http://[::1]/", "address_refused"),
        ("http://[::]/", "address_refused"),
        ("http://[::ffff:127.0.0.1]/", "address_refused"),
        ("http://[::ffff:7f00:1]/", "address_refused"),
        ("http://[fe80::1%25eth0]/", "url_refused"),
        ("http://１２７.0.0.1/", "url_refused"),
        ("http://127。0。0。1/", "url_refused"),
        ("http://2130706433/", "url_refused"),
        ("http://0177.0.0.1/", "url_refused"),
        ("http://0x7f.0.0.1/", "url_refused"),
        ("http://0x7f000001/", "url_refused"),
        ("http://127.1/", "url_refused"),
        ("http://127.0.0.1.nip.0x1/", "url_refused"),
        ("http://%31%32%37.0.0.1/", "address_refused"),
        ("http://user:secret@example.com/", "url_refused"),
        ("http://@example.com/", "url_refused"),
        ("http://example.com@127.0.0.1/", "url_refused"),
        ("http://example.com\\@127.0.0.1/", "url_refused"),
        ("http://exa mple.com/", "url_refused"),
        (" http://example.com/", "url_refused"),
        ("http://example.com/\r\nHost: x", "url_refused"),
        ("http://example.com/\x00", "url_refused"),
        ("http://", "url_refused"),
        ("http:///path", "url_refused"),
        ("http://:80/", "url_refused"),
        ("http://example.com:port/", "url_refused"),
        ("http://example.com:99999/", "url_refused"),
        ("http://[::1/", "url_refused"),
        ("http://" + "a" * 300 + ".example/", "dns"),
        ("ftp://example.com/", "scheme_refused"),
        ("file:///etc/passwd", "scheme_refused"),
        ("gopher://127.0.0.1:70/", "scheme_refused"),
        ("data:text/plain,x", "scheme_refused"),
        ("http:127.0.0.1", "scheme_refused"),
        ("//example.com/", "scheme_refused"),
        ("example.com", "scheme_refused"),
        ("", "scheme_refused"),
    ],
)
def test_addresses_that_only_an_attacker_writes_are_refused(url: str, code: str) -> None:
    error = refused(url)
    assert (error.code, error.request_written) == (code, False)
    assert "secret" not in str(error)


def test_one_private_address_among_public_ones_refuses_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    error = refused("https://name.example/")
    assert error.code == "address_refused"
    assert str(error) == "https://name.example leads to 10.0.0.1, which is not a public address."


def test_the_address_that_was_checked_is_the_one_dialled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that rebinds: public when first asked, loopback (where our server listens) ever after."""
    asked = resolve(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    dialled: list[Any] = []

    def connect(_: socket.socket, place: Any) -> None:
        dialled.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "socket", type("Spy", (socket.socket,), {"connect": connect}))
    port = site.address.rpartition(":")[2]
    assert refused(f"http://name.example:{port}/").code == "connect"
    assert (asked, dialled, site.seen) == (["name.example"], [("8.8.8.8", int(port))], [])


def test_a_name_that_cannot_be_found_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    error = refused("https://name.example/?key=K")
    assert (error.code, error.request_written) == ("dns", False)
    assert str(error) == "https://name.example has a name that cannot be found."


def test_a_look_up_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        over.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert refused("https://name.example/").code == "dns"
    over.set()


@pytest.mark.parametrize("form", ["{ip}", "{ip}:{port}", "127.0.0.0/8", "name.example:{port}", "NAME.example:{port}"])
def test_what_is_allowed_may_be_dialled(form: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, ["127.0.0.1"])
    port = site.address.rpartition(":")[2]
    with GuardedSession(allow=[form.format(ip="127.0.0.1", port=port)]) as session:
        assert session.get(f"http://name.example:{port}/").status == 404
    assert site.seen[0].headers["Host"] == f"name.example:{port}"


@pytest.mark.parametrize("entry", ["127.0.0.1:1", "127.0.0.2", "10.0.0.0/8", "other.example:{port}", "[::1]:{port}"])
def test_an_exception_covers_nothing_else(entry: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, ["127.0.0.1"])
    port = site.address.rpartition(":")[2]
    assert refused(f"http://name.example:{port}/", entry.format(port=port)).code == "address_refused"


def test_an_exception_covers_the_same_address_written_as_ipv6(site: Site, session: GuardedSession) -> None:
    port = site.address.rpartition(":")[2]
    assert session.get(f"http://[::ffff:127.0.0.1]:{port}/").status == 404


@pytest.mark.parametrize("entry", ["", "vault", "vault:", ":80", "10.0.0.0/99", "vault:http"])
def test_an_exception_that_cannot_be_read_is_refused_at_once(entry: str) -> None:
    with pytest.raises(ValueError, match="is not an address"):
        GuardedSession(allow=[entry])


def test_the_next_address_is_tried_where_the_first_does_not_answer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, ["::1", "127.0.0.1"])
    port = site.address.rpartition(":")[2]
    with GuardedSession(allow=["::1", "127.0.0.1"]) as session:
        assert session.get(f"http://name.example:{port}/").status == 404


# Redirects


def test_a_redirect_is_followed_and_its_end_is_told(site: Site, session: GuardedSession) -> None:
    site.pages["/old/a"] = Answer(status=302, headers={"Location": "../新"})
    site.pages["/%E6%96%B0"] = Answer(body=b"here")
    site.pages["/old/a"].headers["Location"] = "../新".encode().decode("latin-1")
    reply = session.get(site.url("/old/a"), headers={"X-Token": "t"})
    assert (reply.body, reply.url) == (b"here", site.url("/%E6%96%B0"))
    assert site.seen[1].headers["X-Token"] == "t"


def test_credentials_do_not_follow_a_redirect_to_another_host(site: Site, session: GuardedSession) -> None:
    with website({"/": Answer(body=b"there")}) as other:
        site.pages["/"] = Answer(status=307, headers={"Location": other.url()})
        headers = {"Authorization": "Bearer t", "X-Vault-Token": "t", "Accept": "text/xml"}
        with GuardedSession(allow=[site.address, other.address]) as both:
            assert both.get(site.url(), headers=headers).body == b"there"
        arrived = other.seen[0].headers
    assert arrived["Accept"] == "text/xml"
    assert "Authorization" not in arrived
    assert "X-Vault-Token" not in arrived


def test_five_redirects_are_followed_and_a_sixth_is_not(site: Site, session: GuardedSession) -> None:
    for number in range(6):
        site.pages[f"/{number}"] = Answer(status=301, headers={"Location": f"/{number + 1}"})
    site.pages["/6"] = Answer(body=b"end")
    assert session.get(site.url("/1")).body == b"end"
    with pytest.raises(OutboundError, match="more than 5 times") as caught:
        session.get(site.url("/0"))
    assert caught.value.code == "redirect_refused"


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://127.0.0.1:1/", "address_refused"),
        ("http://169.254.169.254/", "address_refused"),
        ("file:///etc/passwd", "scheme_refused"),
        ("http://user:pw@example.com/", "url_refused"),
        ("http://[", "redirect_refused"),
    ],
)
def test_a_redirect_is_checked_like_any_address(location: str, code: str, site: Site, session: GuardedSession) -> None:
    site.pages["/"] = Answer(status=302, headers={"Location": location})
    with pytest.raises(OutboundError) as caught:
        session.get(site.url())
    assert caught.value.code == code


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_post_is_never_sent_on(status: int, site: Site, session: GuardedSession) -> None:
    site.pages["/"] = Answer(status=status, headers={"Location": "/other"}, body=b"moved")
    reply = session.post_json(site.url(), {"a": 1})
    assert (reply.status, reply.body, len(site.seen)) == (status, b"moved", 1)


# How much, how long


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(site: Site, session: GuardedSession) -> None:
    limits = Limits(max_bytes=200_000)
    site.pages["/"] = Answer(body=b"a" * 200_000)
    assert len(session.get(site.url(), limits=limits).body) == 200_000
    site.pages["/"] = Answer(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b"a" * 200_001))
    with pytest.raises(OutboundError, match="more than 200000 bytes") as caught:
        session.get(site.url(), limits=limits)
    assert (caught.value.code, caught.value.request_written) == ("too_large", True)


def test_a_length_beyond_the_limit_is_refused_unread(site: Site, session: GuardedSession) -> None:
    site.pages["/"] = Answer(headers={"Content-Length": "99999999999"})
    with pytest.raises(OutboundError) as caught:
        session.get(site.url(), limits=Limits(read=0.3))
    assert caught.value.code == "too_large"


def test_a_decompression_bomb_is_recognised_by_its_ratio(site: Site, session: GuardedSession) -> None:
    bomb = gzip.compress(bytes(12 * 2**20))
    site.pages["/"] = Answer(headers={"Content-Encoding": "gzip"}, body=bomb)
    with pytest.raises(OutboundError, match="suspicious size") as caught:
        session.get(site.url())
    assert caught.value.code == "too_large"
    assert len(session.get(site.url(), limits=Limits(max_ratio=5000)).body) == 12 * 2**20


def test_the_body_of_a_redirect_is_bounded_too(site: Site, session: GuardedSession) -> None:
    headers = {"Location": "/", "Content-Encoding": "gzip"}
    site.pages["/"] = Answer(status=302, headers=headers, body=gzip.compress(bytes(12 * 2**20)))
    with pytest.raises(OutboundError) as caught:
        session.get(site.url())
    assert (caught.value.code, len(site.seen)) == ("too_large", 1)


@pytest.mark.parametrize("encoding", ["br", "gzip"])
def test_a_compression_that_cannot_be_undone_is_a_bad_reply(encoding: str, site: Site, session: GuardedSession) -> None:
    site.pages["/"] = Answer(headers={"Content-Encoding": encoding}, body=b"not compressed")
    with pytest.raises(OutboundError) as caught:
        session.get(site.url())
    assert (caught.value.code, caught.value.request_written) == ("bad_reply", True)


def read_request(connection: socket.socket) -> None:
    text = b""
    while b"\r\n\r\n" not in text:
        if not (part := connection.recv(65536)):
            raise ConnectionError
        text += part


def drip(first: bytes) -> Talk:
    """Sends ``first``, then a byte ever so often: no single read ever waits long."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(first)
        while not over.wait(0.05):
            connection.sendall(b"a")

    return talk


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Slow: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFF\r\n",
    ],
)
def test_a_reply_that_drips_ends_at_the_total(first: bytes) -> None:
    with line(drip(first)) as address:
        error = refused(f"http://{address}/", address)
    assert (error.code, error.request_written) == ("deadline", True)


def test_a_tls_handshake_that_drips_ends_at_the_total() -> None:
    def talk(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(b"\x16\x03\x03\x40\x00")  # a handshake record of 16 KiB
        while not over.wait(0.05):
            connection.sendall(b"a")

    with line(talk) as address:
        error = refused(f"https://{address}/", address, limits=Limits(total=0.5))
    assert (error.code, error.request_written) == ("deadline", False)


def test_the_total_covers_all_redirects_together() -> None:
    def talk(connection: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            read_request(connection)
            over.wait(0.2)
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")

    with line(talk) as address:
        assert refused(f"http://{address}/", address).code == "deadline"


def test_silence_after_the_request_may_mean_that_it_arrived() -> None:
    def talk(connection: socket.socket, over: threading.Event) -> None:
        over.wait()

    with (
        line(talk) as address,
        GuardedSession(allow=[address]) as session,
        pytest.raises(OutboundError) as caught,
    ):
        session.post_json(f"http://{address}/send?key=K", {}, limits=Limits(read=0.2))
    assert (caught.value.code, caught.value.request_written) == ("timeout", True)


def test_a_server_that_does_not_accept_has_not_seen_the_request() -> None:
    """A full backlog: connection attempts are neither accepted nor refused."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        place = listener.getsockname()
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(place)
        error = refused(f"http://127.0.0.1:{place[1]}/", "127.0.0.1", limits=Limits(connect=0.2))
    assert (error.code, error.request_written) == ("timeout", False)


def test_a_closed_port_has_not_seen_the_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    error = refused(f"http://127.0.0.1:{port}/", "127.0.0.1")
    assert (error.code, error.request_written) == ("connect", False)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"", "reset"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf", "reset"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFF\r\nhalf", "reset"),
        (b"SSH-2.0-OpenSSH\r\n", "bad_reply"),
    ],
)
@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_a_connection_that_breaks_after_the_request_is_ambiguous(
    reply: bytes, code: str, end: Callable[[socket.socket], None]
) -> None:
    def talk(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(reply)
        end(connection)

    with line(talk) as address:
        error = refused(f"http://{address}/", address)
    assert error.request_written
    assert error.code == code or (end is reset and error.code == "reset")  # a reset may outrun the reply


def test_an_idle_connection_that_the_server_closed_is_replaced() -> None:
    closed = threading.Event()

    def talk(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.close()
        closed.set()

    with line(talk) as address, GuardedSession(allow=[address]) as session:
        for _ in range(3):
            assert session.post_json(f"http://{address}/", {}, limits=SHORT).body == b"ok"
            assert closed.wait(5)
            closed.clear()


def test_a_late_watchdog_does_not_harm_the_next_call(site: Site) -> None:
    with GuardedSession(allow=[site.address]) as session:
        session.get(site.url(), limits=Limits(total=0.2))
        threading.Event().wait(0.3)
        session.get(site.url())
    assert len({request.peer for request in site.seen}) == 1


# TLS


def issue(
    name: str, key: ec.EllipticCurvePrivateKey, signer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = signer or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


@contextlib.contextmanager
def tls_server(directory: Path) -> Iterator[tuple[str, list[str | None], Path]]:
    """Serves good.example over TLS; yields where, the names that clients asked for, and the CA's file."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca = issue("Test CA", ca_key, None)
    certificate = issue("good.example", key, (ca.subject, ca_key))
    pem, ca_file = directory / "server.pem", directory / "ca.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    names: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.sni_callback = lambda _, name, __: names.append(name)

    def talk(connection: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            read_request(secured)
            secured.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://good.example/\r\nContent-Length: 0\r\n\r\n")
            over.wait()

    with line(talk) as address:
        yield address, names, ca_file


def test_a_certificate_that_nobody_vouches_for_is_a_tls_error(tmp_path: Path) -> None:
    with tls_server(tmp_path) as (address, _, _):
        error = refused(f"https://{address}/?key=K", address, limits=Limits())
    assert (error.code, error.request_written) == ("tls", False)


def test_a_server_without_tls_is_a_tls_error(site: Site) -> None:
    error = refused(f"https://{site.address}/", site.address, limits=Limits())
    assert (error.code, error.request_written) == ("tls", False)


def test_a_certificate_is_checked_against_the_name_and_https_never_falls_back_to_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, ["127.0.0.1"])
    with tls_server(tmp_path) as (address, names, ca_file):
        monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(ca_file))
        port = address.rpartition(":")[2]
        with GuardedSession(allow=[address]) as session:
            assert session.post_json(f"https://good.example:{port}/", {}).status == 302
        downgraded = refused(f"https://good.example:{port}/", address, limits=Limits())
        other = refused(f"https://other.example:{port}/", address, limits=Limits())
    assert (downgraded.code, other.code, other.request_written) == ("redirect_refused", "tls", False)
    assert names == ["good.example", "good.example", "other.example"]


# What is told


def test_no_error_tells_the_query_or_the_path(site: Site) -> None:
    errors = [
        refused("https://10.0.0.1/hook/TOPSECRET?key=TOPSECRET"),
        refused("https://user:TOPSECRET@example.com/"),
        refused("https://2130706433/?key=TOPSECRET"),
        refused(f"https://{site.address}/hook/TOPSECRET?key=TOPSECRET", site.address),
        refused("http://127.0.0.1:1/?key=TOPSECRET", "127.0.0.1"),
    ]
    for error in errors:
        assert "TOPSECRET" not in "".join(traceback.format_exception(error, chain=True))
        assert error.__context__ is None
    assert str(errors[-1]) == "http://127.0.0.1:1 could not be reached."


def test_debug_logging_does_not_tell_the_query(
    site: Site, session: GuardedSession, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        session.get(site.url("/?key=TOPSECRET"))
    assert not [record for record in caplog.records if record.name.startswith("urllib3")]


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "新"])
def test_a_header_that_cannot_be_sent_is_refused_untold(value: str, session: GuardedSession) -> None:
    with pytest.raises(OutboundError) as caught:
        session.get("https://example.com/", headers={"X-Token": value})
    assert (caught.value.code, value in str(caught.value)) == ("url_refused", False)
