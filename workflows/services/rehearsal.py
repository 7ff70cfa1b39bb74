"""A dry run: who would receive now, and whether a second person would have to agree. Nothing is sent or kept."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from workflows.domain.audience import Recipient, Resolution, people
from workflows.models import Audience, Channel
from workflows.services import audiences, messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What would leave through one channel. ``people`` is None where a group's size is unknown."""

    channel: Channel
    addresses: int
    groups: int
    people: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    resolution: Resolution
    ways: Sequence[Way]
    people: int | None
    gate: messages.Gate

    @property
    def groups(self) -> int:
        return sum(way.groups for way in self.ways)


def rehearse(audience: Audience) -> Rehearsal:
    resolution = audiences.resolve(audience)
    through: dict[int, list[Recipient]] = defaultdict(list)
    for recipient in resolution.recipients:
        through[recipient.channel_id].append(recipient)
    ways = [
        Way(
            channel=channel,
            addresses=len(through[channel.pk]),
            groups=sum(recipient.is_group for recipient in through[channel.pk]),
            people=people(through[channel.pk]),
        )
        for channel in Channel.objects.filter(pk__in=through)
    ]
    return Rehearsal(
        resolution=resolution,
        ways=ways,
        people=people(resolution.recipients),
        gate=messages.judge(resolution.recipients),
    )
