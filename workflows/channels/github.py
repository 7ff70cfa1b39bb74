"""An issue in a GitHub repository for each message."""

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Reply
from workflows.channels import Means, Parcel, Receipt, register
from workflows.channels.common import posting
from workflows.domain import markup
from workflows.domain.content import Content, Part

_TEXT_BYTES = 60_000  # GitHub takes 65 536 characters


class GitHubForm(forms.Form):
    base_url = forms.CharField(
        label=gettext_lazy("Address of the API"), initial="https://api.github.com", validators=[posting.require_address]
    )
    repository = forms.RegexField(r"^[\w.-]+/[\w.-]+$", label=gettext_lazy("Repository"))

    def clean_base_url(self) -> str:
        return str(self.cleaned_data["base_url"]).rstrip("/")


@register
class GitHub(posting.PostingChannel):
    kind = "github"
    label = gettext_lazy("GitHub issue")
    config_form = GitHubForm
    secret_fields = ("token",)
    speaks_to_a_group = True
    per_minute = 20

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        title = posting.plain_title(content)
        texts = posting.texts(content, _without_mentions, limit=_TEXT_BYTES)
        return posting.json_parts([{"title": title, "body": text} for text in texts])

    def request(self, parcel: Parcel, means: Means) -> posting.Request:
        return posting.Request(
            url=f"{means.config['base_url']}/repos/{means.config['repository']}/issues",
            body=parcel.part.text.encode(),
            headers={
                "Authorization": f"Bearer {posting.secret(means, 'token')}",
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )

    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        number = posting.answered(reply, 201).get("number")
        if type(number) is not int:
            raise posting.unlike()
        return Receipt(reference=str(number), reply="HTTP 201")


def _without_mentions(text: str) -> str:
    """An @ would notify whoever has that name there."""
    return markup.to_markdown(text).replace("@", "＠")
