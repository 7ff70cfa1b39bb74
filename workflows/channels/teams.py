"""A workflow of Microsoft Teams that posts what its webhook receives, as an Adaptive Card."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Reply
from workflows.channels import Means, Parcel, Receipt, register
from workflows.channels.common import posting
from workflows.domain import markup
from workflows.domain.content import Content, Part

_TEXT_BYTES = 20_000  # of the 28 KB that a card may have


@register
class Teams(posting.PostingChannel):
    kind = "teams"
    label = gettext_lazy("Microsoft Teams")
    config_form = posting.NoConfiguration
    secret_fields = ("url",)
    speaks_to_a_group = True
    per_minute = 60

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        title = posting.plain_title(content)
        texts = posting.texts(content, markup.to_markdown, limit=_TEXT_BYTES)
        return posting.json_parts([_message(title, text) for text in texts])

    def request(self, parcel: Parcel, means: Means) -> posting.Request:
        return posting.Request(url=posting.secret_url(means), body=parcel.part.text.encode())

    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        """A workflow takes the message (202); that it was posted, it tells nobody."""
        posting.require_status(reply, 202)
        if reply.body.strip():
            raise posting.unlike()
        return Receipt(reply="HTTP 202")


def _message(title: str, text: str) -> dict[str, Any]:
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": title, "weight": "Bolder", "wrap": True},
            {"type": "TextBlock", "text": text, "wrap": True},
        ],
    }
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }
