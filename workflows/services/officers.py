"""Mail about requests for approval: to those who can decide, to those who asked, and to all when the glass is broken.

A mail names what is asked and leads to its page. It holds no text of a message, and no link that decides anything.

Each notice goes out at most once: the trail says that it is being sent before the first mail leaves, and a task that
the queue hands out again stops there. What a crash or a dead mail server swallows is not sent later, because a mail is
only a hint: the queue in the admin is the truth, and there is a reminder. Mail that comes twice teaches people not to
read it.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr

from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.db import transaction
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.encoding import punycode
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from audit import context, notices, story
from audit.recorder import Outcome, record
from compliance_bot.guardrails.redaction import redact
from workflows import actions
from workflows.domain.events import Event
from workflows.domain.states import ApprovalState, Verdict
from workflows.domain.text import strip_invisible
from workflows.models import ApprovalRequest
from workflows.services import approvals, cards, mail

_UNSETTLED = frozenset({ApprovalState.PENDING, ApprovalState.EXECUTING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What is said about a request. ``kind`` names it on the trail and in the Message-ID; each kind is sent once."""

    approval: ApprovalRequest
    kind: str
    subject: str
    text: str


def ask(approval_id: int) -> None:
    """Tell everybody who can decide that a request waits for them."""
    with _about(approval_id) as approval:
        if _waits(approval):
            opening = _("A request waits for a second person. You can decide on it.")
            _mail(_notice(approval, "asked", _("Waiting for approval"), opening), approvals.eligible(approval))
            cards.send(approval)


def remind(approval_id: int) -> None:
    """Tell everybody who can decide by now, the second group too, that a request is about to expire."""
    with _about(approval_id) as approval:
        if _waits(approval):
            opening = _("Nobody has decided on this request yet. It expires soon, and then nothing is done.")
            _mail(_notice(approval, "reminded", _("Expires soon"), opening), approvals.eligible(approval))


def tell_requester(approval_id: int) -> None:
    """Tell the requester, and the author where that is another person, what became of the request."""
    with _about(approval_id) as approval:
        if approval.state not in _UNSETTLED:
            cards.close(approval)
            _mail(
                _notice(approval, approval.state, approval.get_state_display(), _outcome(approval)), _askers(approval)
            )


def alert_glass(approval_id: int) -> None:
    """Tell everybody who may decide, and who answers for the trail, that a request was carried out by one person."""
    with _about(approval_id) as approval:
        rows = {
            _("Carried out by"): str(approval.break_glass_by),
            _("Without approval because"): approval.break_glass_reason,
        }
        opening = _("Somebody carried this out without a second person. Another person has to review it.")
        headline = _("Carried out without approval")
        notice = _notice(approval, "glass", headline, f"{opening}\n\n{_table(rows)}")
        _mail(notice, approvals.deciders())
        _tell_trail(notice)


@contextlib.contextmanager
def _about(approval_id: int) -> Iterator[ApprovalRequest]:
    """The request, in the system's language, and what is recorded follows from the asking."""
    cause = context.current()
    parent = approvals.asked_by_event(approval_id)
    with (
        translation.override(settings.LANGUAGE_CODE),
        context.system_acting(request_id=cause.request_id, on_behalf_of=cause.on_behalf_of, parent_event_id=parent),
    ):
        yield ApprovalRequest.objects.select_related("requested_by", "authored_by", "break_glass_by").get(
            pk=approval_id
        )


def _waits(approval: ApprovalRequest) -> bool:
    return approval.state == ApprovalState.PENDING and approval.expires_at > timezone.now()


def _askers(approval: ApprovalRequest) -> list[User]:
    """Whoever took the request back, or replaced it by another, knows already."""
    people = {approval.requested_by, approval.authored_by}
    if approval.state in {ApprovalState.WITHDRAWN, ApprovalState.SUPERSEDED}:
        people = {person for person in people if person.get_username() != context.current().on_behalf_of}
    return sorted((person for person in people if person.is_active), key=User.get_username)


# Words


def _notice(approval: ApprovalRequest, kind: str, headline: str, opening: str) -> Notice:
    text = "\n\n".join([opening, _described(approval), _way_to(approval)])
    return Notice(approval=approval, kind=kind, subject=_line(f"{headline}: {approval.subject_label}"), text=text)


def _described(approval: ApprovalRequest) -> str:
    """Who asks for what, and why."""
    return _table(
        {
            _("What"): f"{actions.registry.get(approval.action).label}: {approval.subject_label}",
            _("Size"): _("unknown") if approval.size is None else str(approval.size),
            _("Requested by"): approval.requested_by.get_username(),
            _("Written by"): approval.authored_by.get_username(),
            _("Reason"): approval.reason,
            _("Expires"): _instant(approval.expires_at) if approval.state == ApprovalState.PENDING else "",
        }
    )


def _outcome(approval: ApprovalRequest) -> str:
    rows = {
        _("Outcome"): approval.get_state_display(),
        _("By"): ", ".join(_settled_by(approval)),
        _("Why"): approval.outcome,
    }
    if approval.state == ApprovalState.APPROVED and approval.execute_at is not None:
        rows[_("Will be carried out")] = _instant(approval.execute_at)
    return "\n\n".join([_("This is what became of a request of yours."), _table(rows)])


def _settled_by(approval: ApprovalRequest) -> list[str]:
    """Who brought it about. Time and moved content are nobody's doing."""
    if approval.break_glass_by is not None:
        return [approval.break_glass_by.get_username()]
    if approval.state in {ApprovalState.WITHDRAWN, ApprovalState.SUPERSEDED}:
        return [context.current().on_behalf_of]
    if approval.state in {ApprovalState.EXPIRED, ApprovalState.VOID}:
        return []
    verdict = Verdict.DENY if approval.state == ApprovalState.DENIED else Verdict.APPROVE
    return [decision.decided_by.get_username() for decision in approval.decisions.filter(verdict=verdict)]


def _way_to(approval: ApprovalRequest) -> str:
    if not settings.BASE_URL:
        return _("Sign in and open number %(number)s under “Approval requests”.") % {"number": approval.pk}
    link = settings.BASE_URL + reverse("admin:workflows_approvalrequest_change", args=[approval.pk])
    return "\n".join([link, _("Opening the page decides nothing.")])


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(f"{label}: {_line(value)}" for label, value in rows.items() if value)


def _line(text: str) -> str:
    """Foreign text on one line, so that it can forge neither a header nor a line of ours."""
    return redact(" ".join(strip_invisible(text).split()))


def _instant(instant: datetime) -> str:
    return f"{date_format(timezone.localtime(instant), 'SHORT_DATETIME_FORMAT')} ({settings.TIME_ZONE})"


# Sending


def _mail(notice: Notice, people: Iterable[User]) -> None:
    """One mail a person, so that nobody is shown who else may decide. Without a mail server nothing is tried."""
    if settings.HAS_MAIL_SERVER:
        letters = {person.get_username(): _letter(notice, person) for person in people if person.email}
        _once(notice, notice.kind, list(letters), lambda: mail.send(letters))


def _tell_trail(notice: Notice) -> None:
    """To who answers for the trail (AUDIT_MAIL, AUDIT_CHANNEL)."""

    def tell() -> dict[str, str]:
        failures = (failure.partition(": ") for failure in notices.tell(notice.subject, notice.text))
        return {receiver: why for receiver, _colon, why in failures}

    _once(notice, f"{notice.kind}-trail", notices.receivers(), tell)


def _letter(notice: Notice, person: User) -> EmailMessage:
    """The same notice to the same person has the same Message-ID: a doubled one is recognised as such."""
    thread = f"approval-{notice.approval.pk}.{notice.approval.request_id.hex[-12:]}"
    domain = punycode(parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2])
    headers = {
        "Message-ID": f"<{thread}.{notice.kind}.{person.pk}@{domain}>",
        "References": f"<{thread}@{domain}>",  # mail programs show what is about one request together
        "Auto-Submitted": "auto-generated",  # no absence notice comes back
    }
    return EmailMessage(notice.subject, notice.text, to=[person.email], headers=headers)


def _once(notice: Notice, kind: str, to: list[str], send: Callable[[], dict[str, str]]) -> None:
    """Send, unless the trail says that this kind of notice was begun before; then say whom it reached.

    ``send`` returns what went wrong, by receiver. A server's words may hold an address: they can be erased.
    """
    if not to or not _begin(notice.approval, kind, to):
        return
    failures = send()
    with transaction.atomic():
        record(
            Event.APPROVAL_NOTIFIED,
            target=notice.approval,
            outcome=Outcome.FAILURE if failures else Outcome.SUCCESS,
            facts={"notice": kind, "to": [name for name in to if name not in failures], "failures": sorted(failures)},
            erasable={"failures": failures} if failures else None,
        )


def _begin(approval: ApprovalRequest, kind: str, to: list[str]) -> bool:
    """Put on the trail that this kind of notice is being sent; False where it says so already."""
    with transaction.atomic():
        ApprovalRequest.objects.select_for_update(of=("self",)).get(pk=approval.pk)  # one task at a time
        begun = story.facts(Event.APPROVAL_NOTIFYING, approval)
        if any(facts["notice"] == kind for facts in begun):
            return False
        record(Event.APPROVAL_NOTIFYING, target=approval, facts={"notice": kind, "to": to})
        return True
