"""Which addresses may be dialled: those of one host on the public internet, and those allowed by name."""

import contextlib
import ipaddress
import re
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# What ``ipaddress`` calls global although it is not a place on the internet.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # Teredo, ORCHID, benchmarks
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # all else (NAT64, fec0::/10, ...) leads somewhere special


class Allowed:
    """Exceptions from the rule that only public addresses are dialled."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._names: set[tuple[str, int]] = set()
        self._networks: list[tuple[Network, int | None]] = []
        for entry in entries:
            self._add(entry)

    def _add(self, entry: str) -> None:
        with contextlib.suppress(ValueError):
            self._networks.append((ipaddress.ip_network(entry, strict=False), None))
            return
        host, _, port = entry.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isdecimal():
            raise ValueError(f"{entry!r} is not an address, a network, or a host with a port")
        try:
            self._networks.append((ipaddress.ip_network(host), int(port)))
        except ValueError:
            self._names.add((host.lower(), int(port)))

    def covers(self, host: str, address: Address, port: int) -> bool:
        if (host.lower(), port) in self._names:
            return True
        return any(address in network and only in (None, port) for network, only in self._networks)


def address_of(text: str) -> Address:
    """As dialled, but with IPv4 unwrapped from ::ffff:0:0/96."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Whether the address is one host on the public internet."""
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def odd_host(host: str) -> bool:
    """Percent signs, and numbers that only some readers take for an IPv4 address (2130706433, 0x7f.1)."""
    if "%" in host:
        return True
    if not re.fullmatch(r"(?:.*\.)?(?:\d+|0[xX][0-9a-fA-F]*)\.?", host):
        return False
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return True
    return False
