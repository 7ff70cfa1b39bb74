"""Files that go with messages."""

import hashlib
import mimetypes

from django.contrib.auth.models import User
from django.db import transaction
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import record
from workflows.channels import Rejected
from workflows.domain.errors import Invalid
from workflows.domain.events import Event
from workflows.domain.text import strip_invisible
from workflows.models import Attachment, Message
from workflows.services import drafts

# The most that any channel takes; each has its own limit, which is said when the message is submitted.
MOST_BYTES = 20 * 2**20
_AT_MOST = 10
_PLAIN = "application/octet-stream"
_BEGINNINGS = {"image/png": b"\x89PNG", "image/jpeg": b"\xff\xd8\xff", "audio/amr": b"#!AMR"}


def attach(*, message: Message, name: str, content: bytes, by: User) -> Attachment:
    """Add a file to a draft. Raises Invalid where it is empty, too large, or one too many."""
    if not 0 < len(content) <= MOST_BYTES:
        raise Invalid(_("A file has between 1 byte and 20 MB."), field="file")
    with transaction.atomic(), context.acting(by):
        drafts.require_own(message.pk, by)
        sha256 = hashlib.sha256(content).hexdigest()
        if message.attachments.filter(sha256=sha256).exists():
            raise Invalid(_("This very file is attached already."), field="file")
        if message.attachments.count() >= _AT_MOST:
            raise Invalid(_("A message carries at most %(most)s files.") % {"most": _AT_MOST}, field="file")
        attachment = Attachment.objects.create(
            message=message,
            name=strip_invisible(name)[-120:],
            media_type=_media_type(name, content),
            size=len(content),
            sha256=sha256,
            content=content,
        )
        record(Event.MESSAGE_WRITTEN, target=message, facts={"attached": attachment.name, "sha256": sha256})
    return attachment


def _media_type(name: str, content: bytes) -> str:
    """By its name; what is called a picture and is none is just a file, so that no receiver refuses it at night."""
    # Systems disagree on how this one is written, or do not know it.
    guessed = "audio/amr" if name.lower().endswith(".amr") else mimetypes.guess_type(name)[0] or _PLAIN
    return guessed if content.startswith(_BEGINNINGS.get(guessed, b"")) else _PLAIN


def detach(*, attachment: Attachment, by: User) -> None:
    """Take a file off a draft."""
    with transaction.atomic(), context.acting(by):
        drafts.require_own(attachment.message_id, by)
        record(
            Event.MESSAGE_WRITTEN,
            target=attachment.message,
            facts={"detached": attachment.name, "sha256": attachment.sha256},
        )
        attachment.delete()


def read_attachment(sha256: str) -> bytes:
    """The bytes behind a digest. Raises Rejected when they were removed."""
    content = Attachment.objects.filter(sha256=sha256).values_list("content", flat=True).first()
    if content is None:
        raise Rejected("no_attachment", "The attachment was removed.")
    return bytes(content)
