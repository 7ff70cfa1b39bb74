"""A workflow's digests for machines: by a token of its own, and only what was released."""

import hashlib
import hmac
import secrets

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from audit import context
from audit.recorder import record
from workflows.domain.errors import NotPermitted
from workflows.domain.events import Event
from workflows.domain.states import MessageState
from workflows.models import Digest, DigestFeed, Workflow

_NEWEST = 50
_LEFT = [MessageState.SENT, MessageState.PARTLY_SENT]


def open_feed(*, workflow: Workflow, by: User) -> str:
    """A new token, shown this once; the one before is worth nothing any more."""
    _require(by)
    token = secrets.token_urlsafe(32)
    with transaction.atomic(), context.acting(by):
        DigestFeed.objects.update_or_create(
            workflow=workflow, defaults={"token_sha256": _digest(token), "made_at": timezone.now()}
        )
        record(Event.FEED_OPENED, target=workflow)
    return token


def close_feed(*, workflow: Workflow, by: User) -> None:
    """Nobody reads it any more."""
    _require(by)
    with transaction.atomic(), context.acting(by):
        if DigestFeed.objects.filter(workflow=workflow).delete()[0]:
            record(Event.FEED_CLOSED, target=workflow)


def read(workflow_id: int, token: str) -> QuerySet[Digest] | None:
    """The newest digests, the newest first; None where there is no such feed, or the token is not its."""
    feed = DigestFeed.objects.filter(workflow=workflow_id).first()
    if not hmac.compare_digest(_digest(token), feed.token_sha256 if feed else _digest("")) or feed is None:
        return None
    # What nobody approved is nobody's to read by another door.
    digests = Digest.objects.filter(workflow=workflow_id, message__state__in=_LEFT)
    return digests.select_related("workflow").order_by("-id")[:_NEWEST]


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _require(by: User) -> None:
    if not by.has_perm("workflows.change_workflow"):
        raise NotPermitted(_("Your role does not include changing workflows."))
