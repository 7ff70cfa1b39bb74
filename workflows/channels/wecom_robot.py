"""A robot of a WeCom group. Its key is a bearer secret in the URL: whoever has it can write to the group."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from workflows.channels.common.http import unanswered
from workflows.domain import markup
from workflows.domain.content import Attached, Content, Entry, Part
from workflows.domain.errors import Invalid
from workflows.domain.text import clip, split

# Bytes of UTF-8; WeCom refuses more with 40058.
TEXT_LIMITS = {"markdown": 4096, "markdown_v2": 4096, "text": 2048}
_ARTICLES = 8
_LINKS = 3
_IMAGES = {"image/png", "image/jpeg"}
_VOICES = {"audio/amr"}
_SMALLEST = 6
_MEBIBYTE = 2**20
_EVERYBODY = "<@all>"
_MENTION = re.compile(r"<@([^<>\s]+)>")


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
        names = _names(self.cleaned_data["mentions"])
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
        linked = [entry for entry in content.entries if entry.url]
        match config.get("form"):
            case "news" if linked:
                said = [("json", _json(news)) for news in _news(linked)]
            case "card" if linked:
                said = [("json", _json(_card(content.title, linked)))]
            case "markdown_v2" | "text" as form:
                said = [(form, text) for text in _texts(content, form, config.get("mentions", ""))]
            case _:
                said = [("markdown", text) for text in _texts(content, "markdown", config.get("mentions", ""))]
        files = [_fitting(attached) for attached in content.attachments]
        of = len(said) + len(files)
        return (
            *(Part(number=number, of=of, text=text, form=form) for number, (form, text) in enumerate(said, 1)),
            *(
                Part(number=number, of=of, text=_named(file), form="file", attachments=(file,))
                for number, file in enumerate(files, len(said) + 1)
            ),
        )

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        yield lambda parcel: self._send(parcel, means)

    def _send(self, parcel: Parcel, means: Means) -> Receipt:
        group = _Group(means, _key(means.secrets))
        part = parcel.part
        payload = group.file(part.attachments[0]) if part.form == "file" else _payload(part)
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
        content, kind = self.means.read_attachment(file.sha256), _media(file)
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


# Shapes


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(filter(None, (name.strip() for name in re.split(r"[,，、\s]+", text)))))


def _texts(content: Content, form: str, mentions: str) -> list[str]:
    title = " ".join(content.title.split())
    blocks = list(content.blocks)
    if form == "text":
        title, blocks = markup.to_plain(title), [_plain_but_mentions(block) for block in blocks]
    if names := _names(mentions):
        blocks.append(" ".join(f"<@{name.removeprefix('@')}>" for name in names))
    head = f"**{title}**" if title and form != "text" else title
    return split(head, blocks, limit=TEXT_LIMITS[form])


def _plain_but_mentions(block: str) -> str:
    """Plain text has mentions too; everything else is words."""
    pieces = _MENTION.split(block)
    return "".join(f"<@{piece}>" if number % 2 else markup.to_plain(piece) for number, piece in enumerate(pieces))


def _news(entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
    """Messages of up to eight articles; WeCom cuts longer titles and descriptions in silence, so we cut them openly."""
    for start in range(0, len(entries), _ARTICLES):
        articles = [
            {"title": clip(entry.title, 128), "description": clip(entry.summary, 512), "url": entry.url}
            for entry in entries[start : start + _ARTICLES]
        ]
        yield {"msgtype": "news", "news": {"articles": articles}}


def _card(title: str, entries: Sequence[Entry]) -> dict[str, Any]:
    first, *others = entries
    card = {
        "card_type": "text_notice",
        "main_title": {"title": clip(markup.to_plain(title), 78), "desc": clip(first.title, 90)},
        "sub_title_text": clip(first.summary, 336),
        "jump_list": [{"type": 1, "url": entry.url, "title": clip(entry.title, 78)} for entry in others[:_LINKS]],
        "card_action": {"type": 1, "url": first.url},
    }
    return {"msgtype": "template_card", "template_card": card}


def _json(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, ensure_ascii=False, indent=2)


def _media(file: Attached) -> str:
    """How WeCom shows a file of this type."""
    if file.media_type in _IMAGES:
        return "image"
    return "voice" if file.media_type in _VOICES else "file"


def _fitting(file: Attached) -> Attached:
    most = {"image": 2, "voice": 2, "file": 20}[_media(file)]
    if not _SMALLEST <= file.size <= most * _MEBIBYTE:
        said = {"name": file.name, "most": most}
        raise Invalid(_("A group robot takes “%(name)s” only with up to %(most)s MB.") % said, field="attachments")
    return file


def _named(file: Attached) -> str:
    return f"{file.name} ({file.media_type}, {file.size} B)"


def _payload(part: Part) -> dict[str, Any]:
    """What is posted for words."""
    if part.form == "json":
        return dict(json.loads(part.text))
    if part.form != "text":
        return {"msgtype": part.form, part.form: {"content": part.text}}
    everybody = {"mentioned_list": ["@all"]} if _EVERYBODY in part.text else {}
    return {"msgtype": "text", "text": {"content": part.text.replace(_EVERYBODY, "").strip(), **everybody}}
