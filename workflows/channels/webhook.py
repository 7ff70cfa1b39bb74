"""JSON to an address of another system, signed as Standard Webhooks has it (standardwebhooks.com).

The body follows ``docs/contracts/message.v1.json``; ``webhook-id`` and ``Idempotency-Key`` are the same whenever the
same message is sent again.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Reply
from workflows.channels import Means, Parcel, Receipt, register
from workflows.channels.common.posting import (
    PostingChannel,
    Request,
    json_parts,
    require_status,
    secret,
    secret_url,
    shown,
    unlike,
)
from workflows.domain.content import Content, Part
from workflows.domain.errors import Invalid

VERSION = "message.v1"
_MOST_BYTES = 256 * 1024
_RECOGNISES = timedelta(hours=24)


class WebhookForm(forms.Form):
    recognises_repetitions = forms.BooleanField(
        label=gettext_lazy("The receiver recognises repetitions"),
        required=False,
        help_text=gettext_lazy(
            "It keeps each Idempotency-Key for a day: then a message whose arrival is uncertain is sent again."
        ),
    )


@register
class Webhook(PostingChannel):
    kind = "webhook"
    label = gettext_lazy("Webhook")
    config_form = WebhookForm
    secret_fields = ("url", "signing_key")
    per_minute = 600
    side_by_side = 16

    def repeatable_for(self, config: Mapping[str, Any], form: str) -> timedelta:
        return _RECOGNISES if config.get("recognises_repetitions") else timedelta(0)

    def clean_address(self, address: str) -> str:
        """Whatever the receiver calls its recipients; it stands in the body."""
        cleaned = address.strip()
        if not cleaned.isprintable():
            raise ValueError(_("The address holds characters that cannot be printed."))
        return cleaned

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        payload = {
            "version": VERSION,
            "title": content.title,
            "markdown": "\n\n".join(content.blocks),
            "entries": [asdict(entry) for entry in content.entries],
            "attachments": [asdict(attached) for attached in content.attachments],
            "digest": content.digest,
        }
        parts = json_parts([payload])
        if len(parts[0].text.encode()) > _MOST_BYTES:
            raise Invalid(_("A webhook takes at most 256 KB: shorten the message."), field="body")
        return parts

    def request(self, parcel: Parcel, means: Means) -> Request:
        payload = {**json.loads(parcel.part.text), "recipient": parcel.addresses[0]}
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        now = str(int(time.time()))
        signature = sign(secret(means, "signing_key"), parcel.key, now, body)
        return Request(
            url=secret_url(means),
            body=body,
            headers={
                "Idempotency-Key": parcel.key,
                "webhook-id": parcel.key,
                "webhook-timestamp": now,
                "webhook-signature": f"v1,{signature}",
            },
        )

    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        """Any 2xx with nothing, or with a JSON object: a page to sign in is no acknowledgement."""
        if not 200 <= reply.status < 300:
            require_status(reply, 200)
        try:
            said = reply.json() if reply.body.strip() else {}
        except ValueError:
            raise unlike() from None
        if not isinstance(said, dict):
            raise unlike()
        words = shown(f"HTTP {reply.status} {reply.text()}", secrets)
        return Receipt(reference=str(said.get("id", ""))[:200], reply=words)


def sign(key: str, message_id: str, timestamp: str, body: bytes) -> str:
    """base64 of HMAC-SHA256 over ``id.timestamp.body``; a key that begins with ``whsec_`` is base64 itself."""
    raw = base64.b64decode(key.removeprefix("whsec_") + "==") if key.startswith("whsec_") else key.encode()
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()
