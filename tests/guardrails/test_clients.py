"""Whose word for the client's address is taken."""

import ipaddress
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from compliance_bot import env
from compliance_bot.guardrails.clients import client_address

PROXY = "127.0.0.1"


@pytest.fixture(autouse=True)
def _proxies(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ipaddress.ip_network(text) for text in (PROXY, "10.0.0.0/8", "2001:db8::/32")]


def told(peer: str, forwarded: str | None = None) -> str:
    headers = None if forwarded is None else {"X-Forwarded-For": forwarded}
    return str(client_address(RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        (PROXY, "198.51.100.7", "198.51.100.7"),
        ("::ffff:127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("2001:db8::1", "2001:470::7", "2001:470::7"),
        (PROXY, "198.51.100.7, 10.1.2.3,10.4.5.6", "198.51.100.7"),
        (PROXY, "fe80::1%eth0", "fe80::1"),
    ],
)
def test_a_trusted_proxy_tells_the_client(peer: str, forwarded: str, client: str) -> None:
    assert told(peer, forwarded) == client


@pytest.mark.parametrize("forwarded", ["6.6.6.6, 198.51.100.7", "10.0.0.9, 198.51.100.7", "junk, 198.51.100.7"])
def test_what_the_client_itself_put_before_it_counts_for_nothing(forwarded: str) -> None:
    assert told(PROXY, forwarded) == "198.51.100.7"


@pytest.mark.parametrize("peer", ["198.51.100.9", "11.0.0.1", "2001:db9::1"])
def test_nobody_else_is_believed(peer: str) -> None:
    assert told(peer, "6.6.6.6") == peer


def test_without_trusted_proxies_the_header_counts_for_nothing(settings: Any) -> None:
    settings.TRUSTED_PROXIES = []
    assert told(PROXY, "6.6.6.6") == PROXY


@pytest.mark.parametrize(
    "forwarded",
    [None, "", ",", "junk", "198.51.100.7, junk", "198.51.100.7:443", "198.51.100.7\x00", "1" * 9000, "10.1.1.1"],
)
def test_where_it_tells_no_client_the_connection_counts(forwarded: str | None) -> None:
    assert told(PROXY, forwarded) == PROXY


def test_behind_a_unix_socket_no_address_is_known() -> None:
    assert told("", "198.51.100.7") == "None"


def test_the_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8,")
    assert [str(network) for network in env.networks("TRUSTED_PROXIES")] == ["127.0.0.1/32", "10.0.0.0/8"]


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", "*", "10.0.0.0/33"])
def test_what_is_none_stops_the_start_and_names_the_variable(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", value)
    with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXIES"):
        env.networks("TRUSTED_PROXIES")
