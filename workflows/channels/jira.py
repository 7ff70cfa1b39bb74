"""An issue in Jira for each message."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Reply
from workflows.channels import Means, Parcel, Receipt, register
from workflows.channels.common import posting
from workflows.domain import markup
from workflows.domain.content import Content, Part

_TEXT_BYTES = 30_000  # Jira takes 32 767 characters


class JiraForm(forms.Form):
    base_url = forms.CharField(label=gettext_lazy("Address"), validators=[posting.require_address])
    user = forms.EmailField(label=gettext_lazy("User"))
    project = forms.RegexField(r"^[A-Z][A-Z0-9_]{1,9}$", label=gettext_lazy("Project key"))
    issue_type = forms.CharField(label=gettext_lazy("Issue type"), initial="Task", max_length=60)

    def clean_base_url(self) -> str:
        return str(self.cleaned_data["base_url"]).rstrip("/")


@register
class Jira(posting.PostingChannel):
    kind = "jira"
    label = gettext_lazy("Jira issue")
    config_form = JiraForm
    secret_fields = ("token",)
    speaks_to_a_group = True
    per_minute = 60

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        title = posting.plain_title(content)
        texts = posting.texts(content, markup.to_plain, limit=_TEXT_BYTES)
        return posting.json_parts(
            [
                {
                    "fields": {
                        "project": {"key": config.get("project", "")},
                        "issuetype": {"name": config.get("issue_type", "Task")},
                        "summary": title,
                        "description": text,
                    }
                }
                for text in texts
            ]
        )

    def request(self, parcel: Parcel, means: Means) -> posting.Request:
        user = f"{means.config['user']}:{posting.secret(means, 'token')}"
        return posting.Request(
            url=f"{means.config['base_url']}/rest/api/2/issue",
            body=parcel.part.text.encode(),
            headers={"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"},
        )

    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        key = posting.answered(reply, 201).get("key")
        if not isinstance(key, str) or not key:
            raise posting.unlike()
        return Receipt(reference=posting.shown(key, secrets), reply="HTTP 201")
