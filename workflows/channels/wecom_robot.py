"""A robot of a WeCom group. Its key is a bearer secret in the URL: whoever has it can write to the group."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Limits, OutboundError, Reply
from workflows.channels import Channel, Means, OutcomeUnknown, Parcel, Receipt, Rejected, Sender, TryLater, register
from workflows.channels.common import wecom
from workflows.channels.common import wecom_shapes as shapes
from workflows.channels.common.http import unanswered
from workflows.domain.content import Attached, Content, Part

# Bytes of UTF-8; WeCom refuses more with 40058.
TEXT_LIMITS = {"markdown": 4096, "markdown_v2": 4096, "text": 2048}


class RobotForm(wecom.ApiForm):
    form = forms.ChoiceField(
        label=gettext_lazy("Shown as"),
        choices=[
            ("markdown", "Markdown"),
            ("markdown_v2", "Markdown v2"),
            ("text", gettext_lazy("plain text")),
            ("news", gettext_lazy("news with links")),
            ("card", gettext_lazy("notice card")),
        ],
        initial="markdown",
        required=False,
        help_text=gettext_lazy("What has no links is sent as Markdown instead of as news or as a card."),
    )
    mentions = forms.CharField(
        label=gettext_lazy("Mentions"),
        required=False,
        max_length=500,
        help_text=gettext_lazy("User ids, separated by commas. “@all” notifies everybody; only as plain text."),
    )

    def clean_form(self) -> str:
        return self.cleaned_data["form"] or "markdown"

    def clean_mentions(self) -> str:
        names = shapes.names(self.cleaned_data["mentions"])
        form = self.cleaned_data.get("form")
        if names and form not in {"markdown", "text"}:
            raise ValidationError(_("This form cannot mention anybody: choose Markdown or plain text."))
        if "@all" in names and form != "text":
            raise ValidationError(_("Only plain text can mention everybody."))
        if wrong := [name for name in names if name != "@all" and not re.fullmatch(r"[\w.@-]{1,64}", name)]:
            raise ValidationError(_("This is not a user id: %(id)s") % {"id": wrong[0]})
        return ", ".join(names)


@register
class WeComRobot(Channel):
    kind = "wecom_robot"
    label = gettext_lazy("WeCom group robot")
    config_form = RobotForm
    secret_fields = ("key",)
    speaks_to_a_group = True
    per_minute = 20
    limits: ClassVar[Limits] = wecom.LIMITS

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        form, mentions = config.get("form", "markdown"), config.get("mentions", "")
        return shapes.Shape(form=form, limits=TEXT_LIMITS, mentions=mentions).render(content)

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        yield lambda parcel: self._send(parcel, means)

    def _send(self, parcel: Parcel, means: Means) -> Receipt:
        group = _Group(means, _key(means.secrets))
        part = parcel.part
        payload = group.file(part.attachments[0]) if part.form == "file" else _words(part)
        said = group.call(lambda url: means.http.post_json(url, payload, limits=self.limits), "send?")
        return Receipt(reply=wecom.clean(f"errcode 0 {said.get('errmsg', '')}", group.key))


@dataclass(frozen=True, slots=True)
class _Group:
    """The robot's API under its key."""

    means: Means
    key: str

    def call(self, post: Callable[[str], Reply], path: str) -> Mapping[str, Any]:
        """WeCom's answer with errcode 0. Raises DeliveryError."""
        try:
            said = wecom.answer(post(f"{self.means.config['base_url']}/cgi-bin/webhook/{path}key={self.key}"))
        except OutboundError as error:
            failure = unanswered(error)
        else:
            if said["errcode"] == 0:
                return said
            failure = wecom.refusal(said["errcode"], wecom.clean(str(said.get("errmsg", "")), self.key))
        raise failure  # out here: a chained exception could quote the URL, and with it the key

    def file(self, file: Attached) -> dict[str, Any]:
        """What is posted for a file: a picture as it is, anything else by the id of what was uploaded."""
        content, kind = self.means.read_attachment(file.sha256), shapes.media_kind(file)
        if kind == "image":
            md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
            return {"msgtype": kind, kind: {"base64": base64.b64encode(content).decode(), "md5": md5}}
        return {"msgtype": kind, kind: {"media_id": self._upload(file, content, kind)}}

    def _upload(self, file: Attached, content: bytes, kind: str) -> str:
        """The media id, good for three days. Nothing has been said to the group yet, whatever goes wrong."""

        def post(url: str) -> Reply:
            return self.means.http.post_file(url, "media", file.name, content, limits=wecom.UPLOAD)

        try:
            said = self.call(post, f"upload_media?type={kind}&")
        except OutcomeUnknown as error:
            raise TryLater(error.code, "The file could not be uploaded.") from None
        media_id = said.get("media_id")
        if not isinstance(media_id, str) or not media_id:
            raise TryLater("no_media_id", "WeCom took the file and gave no id for it.")
        return media_id


def _key(secrets: Mapping[str, str]) -> str:
    key = secrets.get("key", "").strip()
    if not key:
        raise Rejected("no_key", "The robot's key is not stored: store it.", channel_broken=True)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", key):
        raise Rejected(
            "bad_key",
            "What is stored as the robot's key is not one: store only what follows 'key=' in its address.",
            channel_broken=True,
        )
    return key


def _words(part: Part) -> dict[str, Any]:
    """What is posted for words. A robot mentions everybody by a list of its own."""
    if part.form == "text" and shapes.EVERYBODY in part.text:
        words = part.text.replace(shapes.EVERYBODY, "").strip()
        return {"msgtype": "text", "text": {"content": words, "mentioned_list": ["@all"]}}
    return shapes.payload(part)
