"""A digest from ranked candidates, and the words that people read from a digest."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from zoneinfo import ZoneInfo

from workflows.curation.contract import validate
from workflows.curation.normalise import canonical_url, plain
from workflows.curation.rank import Ranked
from workflows.curation.summarise import summarise
from workflows.domain.content import Content, Entry
from workflows.domain.text import escape_markdown

VERSION = "digest.v1"
_REASONS_SHOWN = 3
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# A digest is made by workers, whose active translation is nobody's; its language is part of its content.
_PHRASES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "en": {
            "update": "update",
            "summary": "summary",
            "also_in": "also in {names}",
            "score": "score {score}",
            "score_because": "score {score} ({reasons})",
            "left_out": "… and {count} more",
            "nothing": "Nothing new.",
            "reason_keyword_in_title": "“{detail}” in title",
            "reason_keyword": "“{detail}”",
            "reason_freshness": "fresh",
            "reason_source": "source",
            "reason_also_in": "several sources",
            "between": ", ",
        },
        "zh-hans": {
            "update": "更新",
            "summary": "摘要",
            "also_in": "另见 {names}",
            "score": "评分 {score}",
            "score_because": "评分 {score}（{reasons}）",
            "left_out": "另有 {count} 条",
            "nothing": "暂无新内容。",
            "reason_keyword_in_title": "标题含“{detail}”",
            "reason_keyword": "含“{detail}”",
            "reason_freshness": "新近",
            "reason_source": "来源",
            "reason_also_in": "多个来源",
            "between": "、",
        },
    }
)
LANGUAGES = tuple(_PHRASES)

# Characters that could end a Markdown link early, or open another construct inside one.
_UNSAFE_IN_LINK = re.compile(r"[()\[\]<>\"'`*\\\s|{}^@]")


def compose(
    ranked: Sequence[Ranked],
    *,
    workflow: str,
    kind: str,
    now: datetime,
    time_zone: str,
    language: str,
    limit: int = 10,
) -> dict[str, Any]:
    """The best ``limit`` candidates as a digest that follows ``docs/contracts/digest.v1.json``.

    ``kind`` is "update" or "summary", ``language`` "en" or "zh-hans", ``time_zone`` an IANA name.
    Raises ContractError for a kind or language unknown to the contract, ValueError for a naive ``now`` or a
    ``limit`` under 1, ZoneInfoNotFoundError for an unknown zone.
    """
    if now.utcoffset() is None:
        raise ValueError("now must be an aware instant")
    if limit < 1:
        raise ValueError(f"limit is {limit}; a digest has room for one entry at least")
    entries = [_entry(number, one) for number, one in enumerate(ranked[:limit], 1)]
    digest = {
        "version": VERSION,
        "workflow": plain(workflow),
        "kind": kind,
        "generated_at": _instant(now),
        "time_zone": ZoneInfo(time_zone).key,
        "language": language,
        "entries": entries,
        "left_out": len(ranked) - len(entries),
        "considered": sum(1 + len(one.candidate.folded_ids) for one in ranked),
    }
    validate(digest)
    return digest


def render(digest: Mapping[str, Any]) -> Content:
    """The digest in WeCom Markdown, one block an entry. Everything foreign in it is inert.

    Raises ContractError if the digest breaks its contract.
    """
    validate(digest)
    phrases = _PHRASES[digest["language"]]
    zone = ZoneInfo(digest["time_zone"])
    at = _clock(digest["generated_at"], zone, digest["language"])
    blocks = [_block(entry, phrases, zone, digest["language"]) for entry in digest["entries"]]
    if not blocks:
        blocks.append(phrases["nothing"])
    if digest["left_out"]:
        blocks.append(phrases["left_out"].format(count=digest["left_out"]))
    title = f"{escape_markdown(digest['workflow'])} · {phrases[digest['kind']]} · {at}"
    entries = (
        Entry(
            title=_one_line(entry["title"]), url=_link_target(entry["url"]), summary=_one_line(entry["summary"] or "")
        )
        for entry in digest["entries"]
    )
    return Content(title=title, blocks=tuple(blocks), entries=tuple(entries), digest=digest)


def _entry(number: int, ranked: Ranked) -> dict[str, Any]:
    candidate, item = ranked.candidate, ranked.candidate.item
    return {
        "rank": number,
        "id": candidate.id,
        "title": item.title,
        "url": item.url,
        "summary": summarise(item),
        "source": plain(candidate.source_name),
        "also_in": sorted({plain(name) for name in candidate.also_in}),
        "published_at": _instant(item.published_at) if item.published_at else None,
        "score": ranked.score,
        "rationale": [
            {"rule": reason.rule, "points": reason.points, "detail": plain(reason.detail)}
            for reason in ranked.rationale
        ],
        "content_hash": item.content_hash,
    }


def _block(entry: Mapping[str, Any], phrases: Mapping[str, str], zone: ZoneInfo, language: str) -> str:
    title = escape_markdown(_one_line(entry["title"]))
    url = _link_target(entry["url"])
    lines = [f"**{entry['rank']}. [{title}]({url})**" if url and title else f"**{entry['rank']}. {title}**"]
    if entry["summary"]:
        lines.append(f"> {escape_markdown(_one_line(entry['summary']))}")
    comment = [escape_markdown(_one_line(entry["source"]))]
    if entry["published_at"]:
        comment.append(_clock(entry["published_at"], zone, language))
    if entry["also_in"]:
        names = phrases["between"].join(escape_markdown(_one_line(name)) for name in entry["also_in"])
        comment.append(phrases["also_in"].format(names=names))
    comment.append(_score(entry, phrases))
    lines.append(f'<font color="comment">{" · ".join(comment)}</font>')
    return "\n".join(lines)


def _score(entry: Mapping[str, Any], phrases: Mapping[str, str]) -> str:
    """The score and what weighed most in it."""
    weightiest = sorted(entry["rationale"], key=lambda reason: -abs(reason["points"]))[:_REASONS_SHOWN]
    if not weightiest:
        return phrases["score"].format(score=entry["score"])
    shown = phrases["between"].join(f"{_reason(reason, phrases)} {reason['points']:+d}" for reason in weightiest)
    return phrases["score_because"].format(score=entry["score"], reasons=shown)


def _reason(reason: Mapping[str, Any], phrases: Mapping[str, str]) -> str:
    phrase = phrases.get(f"reason_{reason['rule']}")
    if phrase is None:  # a digest from a later version, with rules that we do not know
        return escape_markdown(reason["rule"])
    return phrase.format(detail=escape_markdown(_one_line(reason["detail"])))


def _link_target(url: str) -> str:
    """The URL with nothing in it that could end its link; "" unless it is http(s).

    Read again rather than trusted: a digest may come from the database, where others write.
    """
    return _UNSAFE_IN_LINK.sub(lambda match: f"%{ord(match[0]):02X}", canonical_url(url))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clock(instant: str, zone: ZoneInfo, language: str) -> str:
    """``23 Nov 14:00`` or ``11月23日 14:00``; not strftime, whose month names follow the process's locale."""
    local = datetime.fromisoformat(instant).astimezone(zone)
    if language == "zh-hans":
        return f"{local.month}月{local.day}日 {local:%H:%M}"
    return f"{local.day} {_MONTHS[local.month - 1]} {local:%H:%M}"
