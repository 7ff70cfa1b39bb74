"""Templates: written with a preview for every kind of channel beside them, and used to write messages."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from workflows.admin.base import ConfigurationAdmin, person
from workflows.domain import wording
from workflows.domain.content import Content
from workflows.domain.errors import WorkflowError
from workflows.domain.wording import Value, Variable, WordingError
from workflows.models import Audience, MessageTemplate
from workflows.services import messages, previews

_LONGEST_BODY = 50_000


class UseForm(forms.Form):
    """A field for each variable of a template, and what every message needs."""

    audience = forms.ModelChoiceField(Audience.objects.all(), label=gettext_lazy("Audience"))
    reason = forms.CharField(label=gettext_lazy("Reason"), max_length=500)

    def __init__(self, *args: Any, variables: tuple[Variable, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.variables = variables
        for variable in variables:
            several = not isinstance(variable.sample, str)
            sample = "; ".join(variable.sample) if several else variable.sample
            self.fields[f"value_{variable.name}"] = forms.CharField(
                label=variable.name,
                max_length=2000,
                widget=forms.TextInput(attrs={"placeholder": sample, "class": "vTextField"}),
                help_text=gettext_lazy("Several values, parted by semicolons.") if several else "",
            )

    def values(self) -> dict[str, Value]:
        given = {variable.name: str(self.cleaned_data[f"value_{variable.name}"]) for variable in self.variables}
        return {
            variable.name: given[variable.name]
            if isinstance(variable.sample, str)
            else wording.listed(given[variable.name])
            for variable in self.variables
        }


@admin.register(MessageTemplate)
class MessageTemplateAdmin(ConfigurationAdmin[MessageTemplate]):
    add_form_template = change_form_template = "admin/workflows/messagetemplate/change_form.html"
    list_display = ("name", "purpose")
    list_filter = ("purpose",)
    search_fields = ("name", "subject")
    fields = ("name", "purpose", "variables", "subject", "body")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("preview/", view(require_POST(self.preview)), name="workflows_messagetemplate_preview"),
            path("<int:pk>/use/", view(self.use), name="workflows_messagetemplate_use"),
            *super().get_urls(),
        ]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """What each kind of channel makes of the words in the form; nothing is kept."""
        if not (self.has_view_permission(request) or request.user.has_perm("workflows.add_message")):
            raise PermissionDenied
        try:
            looks = list(previews.looks(_content(request)))
        except WordingError as error:
            return self.render_page(request, "admin/workflows/messagetemplate/looks.html", problem=str(error))
        return self.render_page(request, "admin/workflows/messagetemplate/looks.html", looks=looks)

    def use(self, request: HttpRequest, pk: int) -> HttpResponse:
        """A draft in the words of this template."""
        template = self.find(request, pk)
        if template.purpose != MessageTemplate.Purpose.MESSAGE or not request.user.has_perm("workflows.add_message"):
            raise PermissionDenied
        form = UseForm(request.POST or None, variables=template.declared())
        if form.is_valid():
            given = form.cleaned_data
            try:
                draft = messages.write_from_template(
                    template=template,
                    values=form.values(),
                    audience=given["audience"],
                    reason=given["reason"],
                    by=person(request),
                )
            except WorkflowError as error:
                form.add_error(None, str(error))
            else:
                self.message_user(request, _("A draft: look at it, and submit it."))
                return self.back(draft)
        title = _("Write a message: %(name)s") % {"name": template}
        page = "admin/workflows/messagetemplate/use.html"
        return self.render_page(request, page, title=title, form=form, original=template)


def _content(request: HttpRequest) -> Content:
    """The words of the form, with samples in their places. Raises WordingError."""
    subject, body = request.POST.get("subject", "")[:200], request.POST.get("body", "")[:_LONGEST_BODY]
    if request.POST.get("purpose") == MessageTemplate.Purpose.DIGEST:
        sample = wording.samples(wording.DIGEST)
        return wording.of_digest(body, Content(title=str(sample["title"]), blocks=tuple(sample["items"])))
    if "variables" in request.POST:
        values = wording.samples(wording.declared(request.POST["variables"][:4000]))
        subject, body = wording.render(subject, values), wording.render(body, values)
    return Content(title=subject, blocks=wording.blocks(body))
