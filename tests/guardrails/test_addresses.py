import ipaddress

import pytest

from compliance_bot.guardrails.addresses import is_public


@pytest.mark.parametrize("address", ["8.8.8.8", "101.91.40.24", "2606:4700:4700::1111", "240e:1::1"])
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
