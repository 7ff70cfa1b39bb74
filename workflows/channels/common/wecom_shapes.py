"""The shapes that WeCom's robots and applications share: words within a limit of bytes, news, cards, files."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from workflows.domain import markup
from workflows.domain.content import Attached, Content, Entry, Part
from workflows.domain.errors import Invalid
from workflows.domain.text import clip, split

_ARTICLES = 8
_LINKS = 3
_IMAGES = frozenset({"image/png", "image/jpeg"})
_VOICES = frozenset({"audio/amr"})
_SMALLEST = 6  # bytes
_LARGEST = {"image": 2 * 2**20, "voice": 2 * 2**20, "file": 20 * 2**20}
EVERYBODY = "<@all>"
_MENTION = re.compile(r"<@([^<>\s]+)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How content is shown: ``form``, within ``limits`` (bytes of UTF-8 by form), mentioning ``mentions``."""

    form: str
    limits: Mapping[str, int]
    mentions: str = ""

    def render(self, content: Content) -> tuple[Part, ...]:
        """Words first, then a part for each file. What has no links is Markdown instead of news or a card.

        Raises Invalid where a file is too large.
        """
        said = list(self._said(content))
        files = [_fitting(attached) for attached in content.attachments]
        of = len(said) + len(files)
        return (
            *(Part(number=number, of=of, text=text, form=form) for number, (form, text) in enumerate(said, 1)),
            *(
                Part(number=number, of=of, text=_named(file), form="file", attachments=(file,))
                for number, file in enumerate(files, len(said) + 1)
            ),
        )

    def _said(self, content: Content) -> Iterator[tuple[str, str]]:
        linked = [entry for entry in content.entries if entry.url]
        match self.form:
            case "news" if linked:
                yield from (("json", _json(news)) for news in _news(linked))
            case "card" if linked:
                yield "json", _json(_notice(content.title, linked))
            case "textcard" if linked:
                yield "json", _json(_text_card(content.title, linked))
            case form:
                form = form if form in self.limits else "markdown"
                yield from ((form, text) for text in self._texts(content, form))

    def _texts(self, content: Content, form: str) -> list[str]:
        title = " ".join(content.title.split())
        blocks = list(content.blocks)
        if form == "text":
            title, blocks = markup.to_plain(title), [_plain_but_mentions(block) for block in blocks]
        if named := names(self.mentions):
            blocks.append(" ".join(f"<@{name.removeprefix('@')}>" for name in named))
        head = f"**{title}**" if title and form != "text" else title
        return split(head, blocks, limit=self.limits[form])


def names(text: str) -> list[str]:
    """User ids out of a list that a person wrote, each once."""
    return list(dict.fromkeys(filter(None, (name.strip() for name in re.split(r"[,，、\s]+", text)))))


def payload(part: Part) -> dict[str, Any]:
    """What is posted for words."""
    if part.form == "json":
        return dict(json.loads(part.text))
    return {"msgtype": part.form, part.form: {"content": part.text}}


def media_kind(file: Attached) -> str:
    """How WeCom shows a file of this type."""
    if file.media_type in _IMAGES:
        return "image"
    return "voice" if file.media_type in _VOICES else "file"


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


def _notice(title: str, entries: Sequence[Entry]) -> dict[str, Any]:
    first, *others = entries
    card = {
        "card_type": "text_notice",
        "main_title": {"title": clip(markup.to_plain(title), 78), "desc": clip(first.title, 90)},
        "sub_title_text": clip(first.summary, 336),
        "jump_list": [{"type": 1, "url": entry.url, "title": clip(entry.title, 78)} for entry in others[:_LINKS]],
        "card_action": {"type": 1, "url": first.url},
    }
    return {"msgtype": "template_card", "template_card": card}


def _text_card(title: str, entries: Sequence[Entry]) -> dict[str, Any]:
    words = "\n".join(f"{number}. {entry.title}" for number, entry in enumerate(entries, 1))
    card = {"title": clip(markup.to_plain(title), 128), "description": clip(words, 512), "url": entries[0].url}
    return {"msgtype": "textcard", "textcard": card}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2)


def _fitting(file: Attached) -> Attached:
    most = _LARGEST[media_kind(file)]
    if not _SMALLEST <= file.size <= most:
        said = {"name": file.name, "least": _SMALLEST, "most": most // 2**20}
        raise Invalid(_("WeCom takes “%(name)s” only with %(least)s bytes to %(most)s MB.") % said, field="attachments")
    return file


def _named(file: Attached) -> str:
    return f"{file.name} ({file.media_type}, {file.size} B)"
