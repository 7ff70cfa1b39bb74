"""A custom robot of a DingTalk group, with signatures switched on."""

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Reply
from workflows.channels import Means, Parcel, Receipt, Rejected, TryLater, register
from workflows.channels.common import posting
from workflows.domain import markup
from workflows.domain.content import Content, Part

_TEXT_BYTES = 16_000  # of the 20 000 bytes that a request may have
_TOO_OFTEN = 130101
_BLOCKED = 600.0  # seconds
_BROKEN = {300001, 310000, 400101, 400102}


@register
class DingTalk(posting.PostingChannel):
    kind = "dingtalk"
    label = gettext_lazy("DingTalk group robot")
    config_form = posting.NoConfiguration
    secret_fields = ("url", "signing_key")
    speaks_to_a_group = True
    per_minute = 20

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        title = posting.plain_title(content)
        texts = posting.texts(content, markup.to_markdown, limit=_TEXT_BYTES)
        return posting.json_parts(
            [{"msgtype": "markdown", "markdown": {"title": title, "text": f"#### {title}\n\n{text}"}} for text in texts]
        )

    def request(self, parcel: Parcel, means: Means) -> posting.Request:
        now, key = str(int(time.time() * 1000)), posting.secret(means, "signing_key")
        signature = hmac.new(key.encode(), f"{now}\n{key}".encode(), hashlib.sha256).digest()
        url = posting.secret_url(means)
        signed = urlencode({"timestamp": now, "sign": base64.b64encode(signature).decode()})
        return posting.Request(url=f"{url}{'&' if '?' in url else '?'}{signed}", body=parcel.part.text.encode())

    def receipt(self, reply: Reply, secrets: Sequence[str]) -> Receipt:
        said = posting.answered(reply, 200)
        code, words = posting.code_of(said, "errcode"), posting.shown(str(said.get("errmsg", "")), secrets)
        if code == 0:
            return Receipt(reply=f"errcode 0 {words}")
        if code == _TOO_OFTEN:
            raise TryLater(str(code), f"DingTalk: too often. {words}", retry_after=_BLOCKED)
        raise Rejected(str(code), f"DingTalk refused the message. {words}", channel_broken=code in _BROKEN)
