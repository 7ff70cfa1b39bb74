"""An incoming webhook of Slack."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Reply
from workflows.channels import Means, Parcel, Receipt, Rejected, register
from workflows.channels.common import posting
from workflows.domain import markup
from workflows.domain.content import Content, Part

_TEXT_BYTES = 12_000  # Slack shortens what is longer than 40 000 characters; nobody reads that much


@register
class Slack(posting.PostingChannel):
    kind = "slack"
    label = gettext_lazy("Slack")
    config_form = posting.NoConfiguration
    secret_fields = ("url",)
    speaks_to_a_group = True
    per_minute = 60

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        title = f"*{posting.plain_title(content).replace('*', '∗')}*"
        texts = posting.texts(content, markup.to_mrkdwn, limit=_TEXT_BYTES)
        return posting.json_parts([{"text": f"{markup.for_slack(title)}\n\n{text}"} for text in texts])

    def request(self, parcel: Parcel, means: Means) -> posting.Request:
        return posting.Request(url=posting.secret_url(means), body=parcel.part.text.encode())

    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        """Slack acknowledges with the word "ok", and names what is wrong with 4xx."""
        if reply.status in {404, 410}:
            sentence = f"Slack does not know this webhook any more (HTTP {reply.status})."
            raise Rejected(f"http_{reply.status}", sentence, channel_broken=True)
        posting.require_status(reply, 200)
        if reply.body.strip() != b"ok":
            raise posting.unlike()
        return Receipt(reply="ok")
