"""The first sentences that say something."""

import re

from workflows.curation.normalise import NormalItem, folded

_SENTENCE_END = re.compile(r"[。！？]+[”’」』）\"')]*\s*|(?:[.!?]+[”’\"')\]]*|…)\s+")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[A-Za-z]|No|Nos|Art|Sec|Reg|Mr|Ms|Mrs|Dr|Prof|St|Inc|Ltd|Co|Corp|vs|cf|et al|e\.g|i\.e"
    r"|(?:[A-Za-z]\.)+[A-Za-z])\.\s*$"
)
_CALL_TO_CLICK = (
    r"read more|continue reading|learn more|click here|view (?:more|original|full article)|see more"
    r"|点击查看|点击阅读|点击这里|阅读更多|阅读全文|阅读原文|查看更多|查看全文|查看原文|查看详情|了解更多|展开全文"
)
_CREDITS = (
    r"the post .* (?:appeared first|first appeared) on|share this|subscribe to|sign up for|follow us"
    r"|all rights reserved|copyright|advertisement|comments$"
    r"|责任编辑|来源[:：]|编辑[:：]|版权所有|扫码|关注我们"
)
_TRAILER = re.compile(
    rf"\s*[\[(（【]?(?:…|\.\.\.)?[\])）】]?\s*(?:{_CALL_TO_CLICK})[^。！？.!?]{{0,20}}$", re.IGNORECASE
)
_BOILERPLATE = re.compile(rf"\W*(?:{_CALL_TO_CLICK}|{_CREDITS})", re.IGNORECASE)
_WORD_END = re.compile(r"[\s\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef，。、；：]")
_LONGEST_READ = 2000  # characters; what normalise leaves


def summarise(item: NormalItem, *, max_chars: int = 160) -> str:
    """The opening of the item's summary in at most ``max_chars`` characters, "" if it says nothing new.

    Whole sentences while they fit; a first sentence that does not is cut after a word and ends in "…".
    Invitations to click, credits and repetitions of the title are left out.
    Raises ValueError if ``max_chars`` is not above 1.
    """
    if max_chars <= 1:
        raise ValueError(f"max_chars is {max_chars}; a summary needs room for a character and an ellipsis")
    told: list[str] = []
    room = max_chars
    for sentence in _sentences(_opening(item)):
        if not _informs(sentence, item.title):
            continue
        if len(sentence) > room:
            break
        told.append(sentence)
        room -= len(sentence) + 1
    if told:
        return _join(told)
    first = next((s for s in _sentences(_opening(item)) if _informs(s, item.title)), "")
    return _cut_after_word(first, max_chars)


def _opening(item: NormalItem) -> str:
    """The summary without a copy of the title before it or an invitation to click after it."""
    text = _TRAILER.sub("", item.summary[:_LONGEST_READ])
    if item.title and text.startswith(item.title):
        rest = text[len(item.title) :]
        if not rest or not rest[0].isalnum():
            text = rest.lstrip(" -–—:：|.。,，!！?？")
    return text


def _sentences(text: str) -> list[str]:
    sentences, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        if _ABBREVIATION.search(text[max(start, match.end() - 16) : match.end()]):
            continue
        sentences.append(text[start : match.end()].strip())
        start = match.end()
    return [sentence for sentence in [*sentences, text[start:].strip()] if sentence]


def _informs(sentence: str, title: str) -> bool:
    says_something = any(char.isalnum() for char in sentence)
    return says_something and not _BOILERPLATE.match(sentence) and folded(sentence) != folded(title)


def _join(sentences: list[str]) -> str:
    """A space between sentences, but none after a full-width full stop."""
    text = sentences[0]
    for sentence in sentences[1:]:
        text += sentence if text[-1] in "。！？”」』）" else f" {sentence}"
    return text


def _cut_after_word(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    end = max_chars - 1
    if not _WORD_END.match(text[end]) and not _WORD_END.match(text[end - 1]):
        words = [match.start() for match in re.finditer(_WORD_END, text[:end])]
        end = words[-1] + (not text[words[-1]].isspace()) if words and words[-1] > 0 else end
    while end > 1 and (text[end] in "\u200d\ufe0f" or "\u0300" <= text[end] <= "\u036f" or text[end - 1] == "\u200d"):
        end -= 1
    return text[:end].rstrip(" ,，、;；:：\u200d") + "…"
