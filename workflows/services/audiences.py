"""Who receives: an audience with all that it includes, each address once, and nobody who is never to be contacted."""

from workflows.domain.audience import Recipient, Resolution
from workflows.models import Audience, AudienceMember, Channel, Inclusion, Suppression
from workflows.models.suppression import folded

_AT_ONCE = 5_000


def resolve(audience: Audience) -> Resolution:
    """The recipients as they are now, in a stable order; four queries, however many they are and however deep.

    Where an address is named more than once, the largest that anybody declared of it counts.
    """
    channels = Channel.objects.in_bulk()
    never = set(Suppression.objects.order_by().values_list("channel_kind", "address"))
    members = AudienceMember.objects.filter(audience__in=Inclusion.objects.below(audience.pk)).order_by("pk")
    found: dict[tuple[int, str], Recipient] = {}
    suppressed: set[tuple[int, str]] = set()
    total = 0
    for member in members.iterator(chunk_size=_AT_ONCE):
        total += 1
        member.channel = channels[member.channel_id]
        key, address = (member.channel_id, member.address), folded(member.address)
        if ("", address) in never or (member.channel.kind, address) in never:
            suppressed.add(key)
            continue
        recipient = member.as_recipient()
        if key not in found or _weight(recipient) > _weight(found[key]):
            found[key] = recipient
    return Resolution(
        recipients=sorted(found.values(), key=Recipient.sort_key),
        suppressed=len(suppressed),
        repeated=total - len(found) - len(suppressed),
    )


def _weight(recipient: Recipient) -> tuple[bool, bool, int]:
    """What nobody counted is larger than anything."""
    return recipient.is_group, recipient.size is None, recipient.size or 0
