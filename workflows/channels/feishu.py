"""A custom robot of a Feishu (Lark) group, with signatures switched on."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Reply
from workflows.channels import Means, Parcel, Receipt, Rejected, TryLater, register
from workflows.channels.common import posting
from workflows.domain import markup
from workflows.domain.content import Content, Part

_TEXT_BYTES = 16_000  # of the 20 KB that a request may have
_TOO_OFTEN = {9499, 11232}
_BROKEN = {19001, 19021, 19022, 19024}


@register
class Feishu(posting.PostingChannel):
    kind = "feishu"
    label = gettext_lazy("Feishu group robot")
    config_form = posting.NoConfiguration
    secret_fields = ("url", "signing_key")
    speaks_to_a_group = True
    per_minute = 100

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        title = posting.plain_title(content)
        texts = posting.texts(content, markup.to_markdown, limit=_TEXT_BYTES)
        return posting.json_parts([{"msg_type": "interactive", "card": _card(title, text)} for text in texts])

    def request(self, parcel: Parcel, means: Means) -> posting.Request:
        now = str(int(time.time()))
        key = f"{now}\n{posting.secret(means, 'signing_key')}".encode()
        signature = base64.b64encode(hmac.new(key, b"", hashlib.sha256).digest()).decode()
        body = json.dumps({"timestamp": now, "sign": signature, **json.loads(parcel.part.text)}, ensure_ascii=False)
        return posting.Request(url=posting.secret_url(means), body=body.encode())

    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        said = posting.answered(reply, 200)
        code, words = posting.code_of(said, "code"), posting.shown(str(said.get("msg", "")), secrets)
        if code == 0:
            return Receipt(reply=f"code 0 {words}")
        if code in _TOO_OFTEN:
            raise TryLater(str(code), f"Feishu: too often, or at a busy minute. {words}", retry_after=60)
        raise Rejected(str(code), f"Feishu refused the message. {words}", channel_broken=code in _BROKEN)


def _card(title: str, text: str) -> dict[str, Any]:
    return {
        "header": {"title": {"tag": "plain_text", "content": title}},
        "elements": [{"tag": "markdown", "content": text}],
    }
