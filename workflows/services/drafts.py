"""Who may write on a message."""

from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from workflows.domain.errors import NotPermitted, WrongState
from workflows.domain.states import MessageState
from workflows.models import Message


def require_own(message_id: int, by: User) -> None:
    """Only a draft can be written on, and only by its author. Locks it for the caller's transaction."""
    current = Message.objects.select_for_update(of=("self",)).get(pk=message_id)
    if current.author_id != by.pk:
        raise NotPermitted(_("Only its author edits a message; write one of your own."))
    if current.state != MessageState.DRAFT:
        raise WrongState(_("This message was submitted meanwhile; withdraw it to edit it."))
