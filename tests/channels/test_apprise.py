"""The long tail by Apprise: what is offered, what is refused, and that a no is no certainty."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from apprise.plugins.discord import NotifyDiscord

from compliance_bot.guardrails.http import GuardedSession
from tests.channels import contract
from workflows.channels import OutcomeUnknown, Receipt, Rejected, registry
from workflows.channels.apprise import SERVICES
from workflows.domain.content import Content

APPRISE = registry.get("apprise")
URL = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"


class _Service(BaseHTTPRequestHandler):
    status = 204
    received: list[bytes] = []

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Service]]:
    """Discord, as far as Apprise knows."""
    server = HTTPServer(("127.0.0.1", 0), _Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(_Service, "status", 204)
    monkeypatch.setattr(_Service, "received", [])
    yield _Service
    server.shutdown()
    thread.join()
    server.server_close()


def send(url: str = URL) -> Receipt:
    part = APPRISE.render(Content(title="公告", blocks=("Please **read**.",)), {})[0]
    with GuardedSession() as http:
        return contract.send(APPRISE, part, config={}, secrets={"url": url}, http=http)


def test_a_confirmed_message_is_sent(service: type[_Service]) -> None:
    assert send().reply == "Apprise: confirmed"
    assert "Please read." in service.received[0].decode("unicode_escape")


def test_an_unconfirmed_one_may_have_arrived(service: type[_Service], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Service, "status", 500)
    with pytest.raises(OutcomeUnknown):
        send()


@pytest.mark.parametrize(
    "url",
    ["", "json://127.0.0.1/x", "wecombot://botkey", "file:///etc/passwd", "discord://", f"{URL}?verify=no"],
)
def test_what_is_not_offered_breaks_the_channel(url: str) -> None:
    with pytest.raises(Rejected) as caught:
        send(url)
    assert caught.value.channel_broken
    assert URL not in str(caught.value)


def test_the_robot_of_wecom_is_not_offered() -> None:
    assert not {"wecombot", "wecom", "json", "xml", "form", "syslog", "mailto"} & SERVICES
