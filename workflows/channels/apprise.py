"""The long tail of chat and push services, by the Apprise library.

Only services whose address Apprise itself knows: one that is named in the stored address could lead inside our own
network, past the guards of every other channel. Its WeCom robot ignores WeCom's errcode, and is not offered.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
from django import forms
from django.utils.translation import gettext_lazy

from workflows.channels import Channel, Means, OutcomeUnknown, Parcel, Receipt, Rejected, Sender, register
from workflows.domain import markup
from workflows.domain.content import Content, Part
from workflows.domain.text import clip, split

SERVICES = frozenset(
    {
        *("cliq", "discord", "flock", "gchat", "groupme", "line", "opsgenie", "pagerduty", "pbul", "pover", "pushplus"),
        *("qq", "ryver", "schan", "telegram", "tgram", "twilio", "twist", "vonage", "webex", "wxpusher", "wxteams"),
        "zulip",
    }
)
_TEXT_BYTES = 1800  # what most of these services show in one message


class AppriseForm(forms.Form):
    """Everything is in the stored address."""


@register
class AppriseChannel(Channel):
    kind = "apprise"
    label = gettext_lazy("Another service (Apprise)")
    config_form = AppriseForm
    secret_fields = ("url",)
    speaks_to_a_group = True
    per_minute = 10

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        title = " ".join(markup.to_plain(content.title).split())
        blocks = [markup.to_plain(block) for block in content.blocks]
        texts = split(clip(title, 200), blocks, limit=_TEXT_BYTES) or [title or "–"]
        return tuple(Part(number=number, of=len(texts), text=text, form="text") for number, text in enumerate(texts, 1))

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        yield _sender(means.secrets.get("url", "").strip())


def _sender(url: str) -> Callable[[Parcel], Receipt]:
    """Raises Rejected for what is no address of a service that is offered."""
    scheme = urlsplit(url).scheme.lower()
    if scheme not in SERVICES:
        known = ", ".join(sorted(SERVICES))
        raise Rejected("bad_url", f"Store an Apprise address of one of these services: {known}.", channel_broken=True)
    if "verify" in parse_qs(urlsplit(url).query, keep_blank_values=True):
        raise Rejected("bad_url", "The address must not switch the check of certificates off.", channel_broken=True)
    service = Apprise(asset=AppriseAsset(plugin_paths=[]))
    if not service.add(url):
        raise Rejected("bad_url", "What is stored is no Apprise address of this service.", channel_broken=True)
    for target in service:
        target.request_rate_per_sec = 0  # the pace is ours, over all processes

    def send(parcel: Parcel) -> Receipt:
        """Apprise says yes or no; a no may have reached somebody."""
        if not service.notify(body=parcel.part.text, notify_type=NotifyType.INFO, body_format=NotifyFormat.TEXT):
            raise OutcomeUnknown("not_confirmed", "The service did not confirm the message. It may have arrived.")
        return Receipt(reply="Apprise: confirmed")

    return send
