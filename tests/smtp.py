"""A mail server on loopback: it takes every mail, refuses the addresses that it is told to, or hangs up."""

import contextlib
import email
import email.policy
import socket
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage


@dataclass
class MailServer:
    """``took``: each mail with the address that it was for. ``hangs_up_after``: so many mails on one connection.

    ``answers``: what it says to a verb (BODY: to the letter itself) instead of yes; "" hangs up.
    """

    port: int = 0
    took: list[tuple[str, EmailMessage]] = field(default_factory=list)
    connections: int = 0
    refuses: set[str] = field(default_factory=set)
    hangs_up_after: int = 1000
    answers: dict[str, str] = field(default_factory=dict)

    def to(self, address: str) -> list[EmailMessage]:
        return [mail for recipient, mail in self.took if recipient == address]

    def addresses(self) -> list[str]:
        return [recipient for recipient, _mail in self.took]


class _Conversation(socketserver.StreamRequestHandler):
    timeout = 20  # a client that neither speaks nor hangs up must not keep the test from ending

    def handle(self) -> None:
        server: MailServer = self.server.mail_server  # type: ignore[attr-defined]
        server.connections += 1
        taken, recipients = 0, list[str]()
        self._say("220 loopback")
        while taken < server.hangs_up_after and (line := self.rfile.readline().decode().strip()):
            verb = line.split(":")[0].split()[0].upper()
            if verb in server.answers:
                self._say(server.answers[verb])
                continue
            if verb == "RCPT":
                address = line.partition("<")[2].partition(">")[0]
                if address in server.refuses:
                    self._say(f"550 no such mailbox {address}")
                    continue
                recipients.append(address)
            elif verb == "DATA":
                self._say("354 go on")
                mail = email.message_from_bytes(self._read_mail(), policy=email.policy.default)
                assert isinstance(mail, EmailMessage)
                if "BODY" in server.answers:
                    self._say(server.answers["BODY"])
                    continue
                server.took += [(address, mail) for address in recipients]
                taken, recipients = taken + 1, []
            elif verb == "QUIT":
                self._say("221 bye")
                return
            self._say("250 yes")

    def _say(self, line: str) -> None:
        """An empty line hangs up."""
        if not line:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(f"{line}\r\n".encode())

    def _read_mail(self) -> bytes:
        lines = []
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)


@contextlib.contextmanager
def serving() -> Iterator[MailServer]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Conversation) as listener:
        server = MailServer(port=listener.server_address[1])
        listener.mail_server = server  # type: ignore[attr-defined]
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
