"""Whose word counts for where a request comes from."""

import ipaddress

import pytest
from django.conf import settings
from django.test import RequestFactory

from compliance_bot.guardrails.clients import client_address


def seen(peer: str, forwarded: str = "") -> str:
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    return str(client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)))


@pytest.fixture
def behind_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [ipaddress.ip_network("127.0.0.1/32"), ipaddress.ip_network("10.0.0.0/8")]
    monkeypatch.setattr(settings, "TRUSTED_PROXIES", networks)


def test_nobody_is_believed_unless_named() -> None:
    assert seen("127.0.0.1", "203.0.113.9") == "127.0.0.1"


@pytest.mark.usefixtures("behind_proxies")
@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("127.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("127.0.0.1", "203.0.113.9, rubbish", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "10.1.2.3", "127.0.0.1"),
    ],
)
def test_the_nearest_address_that_is_no_proxy_of_ours_counts(peer: str, forwarded: str, client: str) -> None:
    assert seen(peer, forwarded) == client


def test_without_an_address_there_is_none() -> None:
    assert client_address(RequestFactory().get("/", REMOTE_ADDR="")) is None
