"""What administrators are told at once: a channel went out of order."""

from email.utils import parseaddr

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.urls import reverse
from django.utils import translation
from django.utils.encoding import punycode
from django.utils.translation import gettext as _

from audit import notices
from workflows.models import Channel
from workflows.services import mail


def channel_broken(channel_id: int) -> None:
    """Tell everybody who may repair the channel, and who answers for the trail. Nothing when it works again."""
    channel = Channel.objects.filter(pk=channel_id, broken_at__isnull=False).first()
    if channel is None:
        return
    with translation.override(settings.LANGUAGE_CODE):
        subject = _("Channel out of order: %(name)s") % {"name": " ".join(channel.name.split())}
        text = "\n\n".join([_("What goes through it waits until it is repaired."), channel.broken_why, _link(channel)])
    if settings.HAS_MAIL_SERVER:
        repairers = User.objects.with_perm(
            "workflows.change_channel", backend="django.contrib.auth.backends.ModelBackend"
        )
        mail.send(
            {person.get_username(): _letter(channel, person, subject, text) for person in repairers if person.email}
        )
    notices.tell(subject, text)


def _letter(channel: Channel, person: User, subject: str, text: str) -> EmailMessage:
    domain = punycode(parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2])
    since = int(channel.broken_at.timestamp()) if channel.broken_at else 0
    headers = {
        "Message-ID": f"<channel-{channel.pk}.{since}.{person.pk}@{domain}>",
        "Auto-Submitted": "auto-generated",
    }
    return EmailMessage(subject, text, to=[person.email], headers=headers)


def _link(channel: Channel) -> str:
    if not settings.BASE_URL:
        return _("Sign in and open it under “Channels”.")
    return settings.BASE_URL + reverse("admin:workflows_channel_change", args=[channel.pk])
