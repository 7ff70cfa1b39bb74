"""Requests for approval as WeCom cards: sent to linked officers, clicked, and decided by the same service as any other.

A card shows what is asked and leads to its page. It has a button that approves only where the policy says so for the
action; denying needs a reason, and a card has no place for one.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from audit.recorder import Outcome, record
from compliance_bot.guardrails import policy
from compliance_bot.guardrails.secrets import SecretError
from workflows import actions
from workflows.channels import DeliveryError, Means
from workflows.channels.wecom_app import Application, WeComApp
from workflows.domain.errors import NotPermitted, StaleContent, WrongState
from workflows.domain.events import Event
from workflows.domain.states import ApprovalState, Verdict
from workflows.domain.text import clip
from workflows.models import ApprovalCard, ApprovalRequest, CallbackApp, Channel, InboundEvent, WeComAccount
from workflows.services import approvals, inbound, outbound, secrets
from workflows.services.attachments import read_attachment
from workflows.services.tokens import SharedToken

CLICKED = "template_card_event"
_APPROVE = "approve"


def send(approval: ApprovalRequest) -> None:
    """A card to each officer who can decide and is linked; each at most once."""
    officers = {person.pk for person in approvals.eligible(approval)}
    accounts = WeComAccount.objects.filter(user__in=officers, app__enabled=True, app__channel__enabled=True)
    for account in accounts.select_related("app__channel", "user"):
        card, made = ApprovalCard.objects.get_or_create(
            approval=approval,
            account=account,
            defaults={"task_id": _task_id(approval, account), "may_decide": _may_decide(approval)},
        )
        if made:
            _send(card)


def close(approval: ApprovalRequest) -> None:
    """Say on every card what became of the request."""
    cards = approval.cards.filter(updated_at=None).exclude(response_code="")
    for card in cards.select_related("account__app__channel"):
        _update(card, approval.get_state_display())


def _may_decide(approval: ApprovalRequest) -> bool:
    rule = policy.current().actions.rules.get(approval.action)
    return rule is not None and rule.cards_may_decide and not rule.reason_to_approve


def _task_id(approval: ApprovalRequest, account: WeComAccount) -> str:
    """Names the request, the officer and what is asked: a click on a card about something else is no click on this."""
    return f"approval-{approval.pk}-{account.pk}-{approval.content_digest[:32]}"


def _send(card: ApprovalCard) -> None:
    account = card.account
    payload = {"touser": account.userid, "msgtype": "template_card", "template_card": _card(card)}
    said = _call(card, "message/send", payload)
    if said is not None:
        card.response_code, card.sent_at = str(said.get("response_code", ""))[:200], timezone.now()
        card.save(update_fields=["response_code", "sent_at"])


def _update(card: ApprovalCard, text: str) -> None:
    """Replaces the button; a code works once, so a second try would fail anyway."""
    card.updated_at = timezone.now()
    card.save(update_fields=["updated_at"])
    payload = {"userids": [card.account.userid], "response_code": card.response_code, "button": {"replace_name": text}}
    _call(card, "message/update_template_card", payload)


def _call(card: ApprovalCard, path: str, payload: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """WeCom's answer; None where it refused. A card is only a hint, so nothing is tried again."""
    channel = card.account.app.channel
    if channel is None:
        return None
    try:
        with _application(channel) as application:
            said = application.call(path, {"agentid": channel.config["agent_id"], **payload})
    except (DeliveryError, SecretError) as error:
        _tell(card, path, Outcome.FAILURE, str(error))
        return None
    _tell(card, path, Outcome.SUCCESS, "")
    return said


def _tell(card: ApprovalCard, path: str, outcome: Outcome, why: str) -> None:
    facts = {"call": path, "to": card.account.userid}
    with transaction.atomic():
        record(Event.CARD_SENT, target=card.approval, outcome=outcome, why=why, facts=facts)


@contextmanager
def _application(channel: Channel) -> Iterator[Application]:
    values = secrets.of_channel(channel, purpose="card")
    with outbound.session() as http:
        means = Means(
            config=channel.config,
            secrets=values,
            http=http,
            tokens=SharedToken(channel),
            read_attachment=read_attachment,
        )
        yield Application(means, WeComApp.limits)


def _card(card: ApprovalCard) -> dict[str, Any]:
    """What is asked, in WeCom's advised lengths."""
    approval = card.approval
    url = settings.BASE_URL + reverse("admin:workflows_approvalrequest_change", args=[approval.pk])
    rows = {
        _("Requested by"): approval.requested_by.get_username(),
        _("Reach"): actions.registry.get(approval.action).in_words(approval.size),
        _("Reason"): approval.reason,
        _("Bound to"): approval.content_digest[:16],
    }
    shown = {
        "main_title": {
            "title": clip(str(actions.registry.get(approval.action).label), 78),
            "desc": clip(approval.subject_label, 90),
        },
        "horizontal_content_list": [{"keyname": name, "value": clip(text, 90)} for name, text in rows.items()],
        "task_id": card.task_id,
        "card_action": {"type": 1, "url": url},
    }
    if not card.may_decide:
        return {"card_type": "text_notice", **shown}
    buttons = [
        {"text": _("Approve"), "style": 1, "key": _APPROVE},
        {"text": _("Look at it"), "style": 2, "type": 1, "url": url},
    ]
    return {"card_type": "button_interaction", **shown, "button_list": buttons}


# A click


def clicked(event: InboundEvent) -> None:
    """Decide what an officer clicked, if everything is as it was when the card was sent. Raises a WorkflowError."""
    card = _clicked_card(event.app, str(event.payload.get("TaskId", "")))
    if card.account.userid.lower() != event.from_user:
        raise NotPermitted(_("This card was sent to somebody else."))
    if event.payload.get("EventKey") != _APPROVE or not card.may_decide or not _may_decide(card.approval):
        raise NotPermitted(_("This request is not decided on a card: open its page."))
    if card.task_id != _task_id(card.approval, card.account):
        raise StaleContent(_("The request is about something else by now: open its page."))
    if card.approval.state != ApprovalState.PENDING:
        raise WrongState(_("This request was decided already."))
    approvals.decide(approval_id=card.approval_id, verdict=Verdict.APPROVE, by=card.account.user, reason="")


def _clicked_card(app: CallbackApp, task_id: str) -> ApprovalCard:
    cards = ApprovalCard.objects.select_related("approval", "account__user", "account__app")
    card = cards.filter(task_id=task_id, account__app=app, account__user__is_active=True).first()
    if card is None:
        raise NotPermitted(_("No card of ours has this number."))
    return card


inbound.handles(CLICKED, clicked)
