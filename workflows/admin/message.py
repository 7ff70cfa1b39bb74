from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows.admin.base import HouseAdmin, badge, change_url, person
from workflows.domain.errors import WorkflowError
from workflows.domain.states import DELIVERY_DUE, DELIVERY_UNCERTAIN, DeliveryState, MessageState
from workflows.models import ApprovalRequest, Attachment, Delivery, Message
from workflows.services import approvals, attachments, delivery, messages, pauses, recalling

_SHOWN = 20


class MessageForm(forms.ModelForm[Message]):
    class Meta:
        model = Message
        fields = ("subject", "body", "audience", "reason", "send_at", "valid_until", "urgent")
        widgets = {"body": forms.Textarea(attrs={"rows": 10, "class": "vLargeTextField"})}

    def clean_send_at(self) -> Any:
        send_at = self.cleaned_data["send_at"]
        if send_at is not None and send_at <= timezone.now():
            raise forms.ValidationError(_("This time is over. Leave it empty to send as soon as it is approved."))
        return send_at

    def clean_valid_until(self) -> Any:
        valid_until, send_at = self.cleaned_data["valid_until"], self.cleaned_data.get("send_at")
        if valid_until is not None and valid_until <= (send_at or timezone.now()):
            raise forms.ValidationError(
                _("This is over before anything is sent. Choose a later time, or leave it empty.")
            )
        return valid_until

    def clean_body(self) -> str:
        body = str(self.cleaned_data["body"])
        if self.instance.digest_id is None and not body.strip():
            raise forms.ValidationError(_("Write what is to be sent."))
        return body


class AttachmentForm(forms.ModelForm[Attachment]):
    file = forms.FileField(label=gettext_lazy("File"))

    class Meta:
        model = Attachment
        fields: tuple[str, ...] = ()


class AttachmentInline(admin.TabularInline[Attachment, Message]):
    """Files are added and taken off, never edited; who may edit the message may do so."""

    model = Attachment
    form = AttachmentForm
    extra = 0
    fields = ("name", "size", "file")
    readonly_fields = ("name", "size")

    def has_add_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return bool(self.admin_site._registry[Message].has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return self.has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        return True

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Attachment]:
        return super().get_queryset(request).defer("content")


@admin.register(Message)
class MessageAdmin(HouseAdmin[Message]):
    form = MessageForm
    inlines = (AttachmentInline,)
    add_form_template = "admin/workflows/message/change_form.html"
    change_form_template = "admin/workflows/message/change_form.html"
    list_display = ("subject", "state_badge", "audience", "people", "author", "created_at")
    list_filter = ("state", "workflow")
    list_select_related = ("audience", "author")
    search_fields = ("subject",)
    readonly_fields = (
        "state_badge",
        "author",
        "digest",
        "gate",
        "standing_approval",
        "people",
        "created_at",
        "released_at",
        "finished_at",
    )

    def get_inlines(self, request: HttpRequest, obj: Message | None = None) -> Any:
        """An empty table of files helps nobody who cannot add one."""
        shown = self.has_change_permission(request, obj) or (obj is not None and obj.attachments.exists())
        return self.inlines if shown else ()

    def get_fieldsets(self, request: HttpRequest, obj: Message | None = None) -> Any:
        said = ["digest"] if obj is not None and obj.digest_id is not None else ["body"]
        written = ["subject", *said, "audience", "reason", "send_at", "valid_until", "urgent"]
        if obj is None:
            return [(None, {"fields": written})]
        under = ["standing_approval"] if obj.standing_approval_id is not None else []
        facts = ["author", "gate", *under, "people", "created_at", "released_at", "finished_at"]
        return [(None, {"fields": ["state_badge", *written]}), (_("Facts"), {"fields": facts})]

    def get_readonly_fields(self, request: HttpRequest, obj: Message | None = None) -> Any:
        fixed = ("subject",) if obj is not None and obj.digest_id is not None else ()
        return (*self.readonly_fields, *fixed)

    def has_change_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        """What waits or has left is not edited: withdraw it first. A draft is its author's alone."""
        editable = obj is None or (obj.state == MessageState.DRAFT and obj.author_id == request.user.pk)
        return super().has_change_permission(request, obj) and editable

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("<int:pk>/discard/", view(require_POST(self.discard)), name="workflows_message_discard"),
            path("<int:pk>/write-anew/", view(require_POST(self.write_anew)), name="workflows_message_write_anew"),
            path("<int:pk>/cancel-rest/", view(require_POST(self.cancel_rest)), name="workflows_message_cancel_rest"),
            path("<int:pk>/recall/", view(require_POST(self.recall)), name="workflows_message_recall"),
            path("<int:pk>/withdraw/", view(require_POST(self.withdraw)), name="workflows_message_withdraw"),
            path("<int:pk>/progress/", view(self.progress), name="workflows_message_progress"),
            *super().get_urls(),
        ]

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except WorkflowError as error:  # submitted by somebody else while this form was open
            self.message_user(request, str(error), level="ERROR")
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Message, form: Any, change: bool) -> None:  # noqa: FBT001
        messages.write(message=obj, by=person(request))

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: FBT001
        formset.save(commit=False)
        for gone in formset.deleted_objects:
            attachments.detach(attachment=gone, by=person(request))
        for one in formset.extra_forms:
            if upload := one.cleaned_data.get("file"):
                attachments.attach(message=form.instance, name=upload.name, content=upload.read(), by=person(request))
        formset.new_objects, formset.changed_objects = [], []

    def response_add(self, request: HttpRequest, obj: Message, post_url_continue: str | None = None) -> HttpResponse:
        return self._submit_if_asked(request, obj) or super().response_add(request, obj, post_url_continue)

    def response_change(self, request: HttpRequest, obj: Message) -> HttpResponse:
        return self._submit_if_asked(request, obj) or super().response_change(request, obj)

    def _submit_if_asked(self, request: HttpRequest, obj: Message) -> HttpResponse | None:
        return self._submit(request, obj) if "_submit" in request.POST else None

    def _submit(self, request: HttpRequest, message: Message) -> HttpResponse:
        try:
            message = messages.submit(message_id=message.pk, by=person(request))
        except WorkflowError as error:
            self.message_user(request, _("Not submitted: %(why)s") % {"why": error}, level="ERROR")
            return self.back(message)
        if message.state == MessageState.PENDING:
            self.message_user(request, _("Submitted: a second person decides now. %(gate)s") % {"gate": message.gate})
        else:
            self.message_user(request, _("On its way. %(gate)s") % {"gate": message.gate})
        return self.back(message)

    def discard(self, request: HttpRequest, pk: int) -> HttpResponse:
        message = self.find(request, pk)
        self.carry_out(
            request,
            _("Thrown away: it will not be sent."),
            lambda: messages.discard(message_id=pk, by=person(request), reason=request.POST.get("reason", "")),
        )
        return self.back(message)

    def cancel_rest(self, request: HttpRequest, pk: int) -> HttpResponse:
        message = self.find(request, pk)
        self.carry_out(
            request,
            _("Cancelled: what had not left is never sent."),
            lambda: delivery.cancel_rest(message_id=pk, by=person(request), reason=request.POST.get("reason", "")),
        )
        return self.back(message)

    def recall(self, request: HttpRequest, pk: int) -> HttpResponse:
        message = self.find(request, pk)
        self.carry_out(
            request,
            _("It is being taken back."),
            lambda: recalling.ask(message_id=pk, by=person(request), reason=request.POST.get("reason", "")),
        )
        return self.back(message)

    def write_anew(self, request: HttpRequest, pk: int) -> HttpResponse:
        message = self.find(request, pk)
        try:
            draft = messages.write_anew(message_id=message.pk, by=person(request))
        except WorkflowError as error:
            self.message_user(request, str(error), level="ERROR")
            return self.back(message)
        return self.back(draft)

    def withdraw(self, request: HttpRequest, pk: int) -> HttpResponse:
        message = self.find(request, pk)
        if approval := _open_request(pk):
            self.carry_out(
                request,
                _("Withdrawn; it is a draft again."),
                lambda: approvals.withdraw(
                    approval_id=approval.pk, by=person(request), reason=request.POST.get("reason", "")
                ),
            )
        return self.back(message)

    def progress(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The message's state and its deliveries by state, for the page's own refresh."""
        message = self.find(request, pk)
        return JsonResponse(_progress(message))

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        message = context.get("original")
        if message is not None:
            approval = _open_request(message.pk)
            context["progress"] = _progress(message)
            context["request_url"] = approval and change_url(approval)
            context["can_withdraw"] = approval is not None and request.user.pk in {
                approval.requested_by_id,
                approval.authored_by_id,
            }
            context["can_write_anew"] = message.state == MessageState.CANCELLED and message.digest_id is None
            context["recallable"] = recalling.recallable(message.pk, timezone.now()).exists()
            context["taken_back"] = message.deliveries.filter(recalled_at__isnull=False).count()
            context["is_draft"] = message.state == MessageState.DRAFT
            context["on_its_way"] = message.state == MessageState.RELEASED
            context["pause"] = pauses.of(message)
            context["held_by"] = pauses.over_part_of(message)
            context["has_rest"] = message.deliveries.filter(state__in=sorted(DELIVERY_DUE)).exists()
            if context["pause"] or message.deliveries.filter(state=DeliveryState.CANCELLED).exists():
                context["groups"] = _what_has_left(message)
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=gettext_lazy("state"), ordering="state")
    def state_badge(self, obj: Message) -> SafeString:
        return badge(obj.state, obj.get_state_display())


def _open_request(message_id: int) -> ApprovalRequest | None:
    return ApprovalRequest.objects.filter(
        subject_type=Message._meta.label_lower, subject_id=str(message_id), state="pending"
    ).first()


def _progress(message: Message) -> dict[str, Any]:
    """{state, label, final, total, counts: [{state, label, count, url}], deliveries_url}"""
    rows = Delivery.objects.filter(message=message).order_by().values("state").annotate(count=models.Count("pk"))
    labels = dict(Delivery._meta.get_field("state").flatchoices)
    counts = [
        {
            "state": row["state"],
            "label": str(labels[row["state"]]),
            "count": row["count"],
            "url": _deliveries_url(message, row["state"]),
        }
        for row in rows
    ]
    return {
        "state": message.state,
        "label": message.get_state_display(),
        "final": message.finished_at is not None,
        "total": sum(row["count"] for row in counts),
        "counts": sorted(counts, key=lambda row: row["state"]),
        "deliveries_url": _deliveries_url(message),
    }


def _what_has_left(message: Message) -> list[dict[str, Any]]:
    """Of a message that was halted: what has left, what has not and what may have, each with who comes first."""
    has_not_left = frozenset(DeliveryState) - DELIVERY_UNCERTAIN - {DeliveryState.SENT}
    groups = [
        ("sent", _("Has left"), {DeliveryState.SENT}),
        ("unknown", _("May have left"), DELIVERY_UNCERTAIN),
        ("cancelled", _("Has not left"), has_not_left),
    ]
    shown = []
    for name, label, states in groups:
        rows = message.deliveries.filter(state__in=sorted(states)).order_by("pk")
        url = _deliveries_url(message, *sorted(states))
        first = rows.select_related("part")[:_SHOWN]
        shown.append({"name": name, "label": label, "count": rows.count(), "first": first, "url": url})
    return shown


def _deliveries_url(message: Message, *states: str) -> str:
    """The list of a message's deliveries, or of those in these states."""
    query = {"message__id__exact": str(message.pk)}
    match states:
        case []:
            pass
        case [state]:
            query["state__exact"] = state
        case _:
            query["state__in"] = ",".join(states)
    return f"{reverse('admin:workflows_delivery_changelist')}?{urlencode(query)}"
