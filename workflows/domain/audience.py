"""Who is reached, and whether that makes a message a mass send."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

_NAMED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One address that a channel delivers to.

    ``address`` is "" where the channel itself is the recipient (a group robot). ``size`` is the number of
    people behind the address; None means that nobody declared it.
    """

    channel_id: int
    channel: str
    address: str
    label: str
    is_group: bool
    size: int | None

    def sort_key(self) -> tuple[int, str]:
        return self.channel_id, self.address

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Who an audience is at one moment, each once. ``suppressed``: addresses that are never contacted.

    ``repeated``: how often an address was named again, by the audience itself or by one that it includes.
    """

    recipients: Sequence[Recipient]
    suppressed: int
    repeated: int


def people(recipients: Sequence[Recipient]) -> int | None:
    """How many people are reached; None as soon as one group's size is unknown."""
    total = 0
    for recipient in recipients:
        if recipient.size is None:
            return None
        total += recipient.size
    return total


def mass_send_reasons(recipients: Sequence[Recipient], *, min_recipients: int) -> tuple[str, ...]:
    """Why this audience makes a message a mass send; empty when it does not. Unknown counts as large."""
    groups = [recipient for recipient in recipients if recipient.is_group]
    unknown = [group.label for group in groups if group.size is None]
    large = [group.label for group in groups if group.size is not None and group.size > min_recipients]
    total = people(recipients)
    reasons = []
    if unknown:
        reasons.append(_("group size unknown: %(names)s") % {"names": _first(unknown)})
    if large:
        named = {"limit": min_recipients, "names": _first(large)}
        reasons.append(_("group of more than %(limit)d people: %(names)s") % named)
    if len(groups) > 1:
        reasons.append(_("%(count)d groups") % {"count": len(groups)})
    if total is not None and total > min_recipients:
        reasons.append(_("%(count)d people, more than %(limit)d") % {"count": total, "limit": min_recipients})
    return tuple(reasons)


def _first(names: Sequence[str]) -> str:
    """An audience may have thousands of groups; nobody reads a sentence that names them all."""
    return ", ".join([*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])])
