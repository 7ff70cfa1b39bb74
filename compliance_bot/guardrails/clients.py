"""From which address a request comes. A header counts only when a proxy of ours has written it."""

from collections.abc import Iterator, Sequence

from django.conf import settings
from django.http import HttpRequest

from compliance_bot.guardrails.addresses import Address, Network, address_of


def client_address(request: HttpRequest) -> Address | None:
    """The client's address; None where the web server knows none, as behind a Unix socket.

    Each proxy appends to X-Forwarded-For who spoke to it. So the list is read from its right end, through proxies of
    ours (``TRUSTED_PROXIES``), to the first address that is none: what stands left of that the client may have made
    up. Where nothing of the kind is found, the address of the connection itself counts.
    """
    peer = _read(request.META.get("REMOTE_ADDR", ""))
    if peer is None or not _is_trusted(peer):
        return peer
    for address in _forwarded(request):
        if address is None:
            return peer
        if not _is_trusted(address):
            return address
    return peer


def _forwarded(request: HttpRequest) -> Iterator[Address | None]:
    """The addresses in the header, the newest first; None for what is no address."""
    return map(_read, reversed(request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")))


def _read(text: str) -> Address | None:
    """Without the scope of a link-local address, which no database keeps."""
    try:
        return address_of(text.strip().partition("%")[0])
    except ValueError:
        return None


def _is_trusted(address: Address) -> bool:
    proxies: Sequence[Network] = settings.TRUSTED_PROXIES
    return any(address in network for network in proxies)
