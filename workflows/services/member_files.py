"""The members of an audience as a CSV file."""

from collections.abc import Iterator

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import record
from workflows.domain.errors import NotPermitted
from workflows.domain.events import Event
from workflows.models import Audience, AudienceMember

COLUMNS = ("channel", "address", "label", "is_group", "size")
YES, NO = "yes", "no"
_AT_ONCE = 2_000


def may_export(by: User) -> bool:
    """Whoever could write the list, or takes whole trails out of the house."""
    return by.has_perm("workflows.change_audience") or by.has_perm("audit.export_auditevent")


def export(audience: Audience, *, by: User) -> Iterator[list[str]]:
    """The audience's own members, a row of cells each; on the trail before the first row."""
    if not may_export(by):
        raise NotPermitted(_("Your role does not include exporting audiences."))
    members = AudienceMember.objects.filter(audience=audience).select_related("channel").order_by("pk")
    with transaction.atomic(), context.acting(by):
        record(Event.AUDIENCE_EXPORTED, target=audience, facts={"rows": members.count()})
    return (_cells(member) for member in members.iterator(chunk_size=_AT_ONCE))


def _cells(member: AudienceMember) -> list[str]:
    size = "" if member.size is None else str(member.size)
    return [member.channel.name, member.address, member.label, YES if member.is_group else NO, size]
