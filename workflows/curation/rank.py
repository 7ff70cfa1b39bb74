"""Which items come first, and why: every point is named."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from workflows.curation.normalise import NormalItem

DEFAULT_KEYWORDS: Mapping[str, int] = MappingProxyType(
    {
        "urgent|emergency|紧急": 30,
        "breach|breaches|data leak|泄露|泄漏": 25,
        "fine|fines|fined|penalty|penalties|罚款|处罚": 20,
        "deadline|deadlines|截止": 20,
        "sanction|sanctions|sanctioned|制裁": 20,
        "recall|recalls|recalled|召回": 15,
        "enforcement|investigation|执法|立案|调查": 15,
        "regulation|regulations|directive|法规|条例|办法": 10,
        "guidance|guideline|guidelines|指南|指引": 5,
        "consultation|征求意见": 5,
    }
)
"""Term → points. ``|`` separates spellings of one term, which together count once."""

MAX_SOURCE_WEIGHT = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An item on its way into a digest. ``id`` is the database's and opaque here.

    ``source_weight`` is -50..50 points. ``also_in`` names the other sources of the same story and
    ``folded_ids`` the items that it stands for, so that they settle with it (both filled by ``fold``).
    """

    item: NormalItem
    source_name: str
    source_weight: int
    id: int
    also_in: tuple[str, ...] = ()
    folded_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How points are given; all points are integers.

    An ASCII keyword matches whole words in any case, any other one by substring. Freshness falls linearly
    from ``freshness`` points to none over ``freshness_hours``.
    """

    keywords: Mapping[str, int] = field(default_factory=lambda: DEFAULT_KEYWORDS)
    freshness: int = 20
    freshness_hours: int = 48
    in_title_factor: int = 2
    also_in: int = 5
    also_in_most: int = 15

    def __post_init__(self) -> None:
        """Raises ValueError naming the first rule that cannot be applied."""
        if self.freshness_hours <= 0:
            raise ValueError("freshness_hours must be above 0")
        if self.in_title_factor < 1:
            raise ValueError("in_title_factor must be at least 1")
        for term, points in self.keywords.items():
            if not all(spelling.strip() for spelling in term.split("|")):
                raise ValueError(f"the keyword {term!r} has an empty spelling")
            if type(points) is not int:
                raise ValueError(f"the points of {term!r} must be a whole number, not {points!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Points that one rule gave.

    ``rule`` is ``keyword_in_title``, ``keyword``, ``freshness``, ``source`` or ``also_in``; ``detail`` the
    spelling found, the age in whole hours, the source, or the other sources.
    """

    rule: str
    points: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A candidate and its score, which is the sum of its reasons' points."""

    candidate: Candidate
    score: int
    rationale: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class _Spelling:
    text: str
    word: re.Pattern[str] | None  # None: by substring

    def found_in(self, text: str) -> bool:
        return self.text in text and (self.word is None or self.word.search(text) is not None)


_Keyword = tuple[int, tuple[_Spelling, ...]]


def rank(candidates: Iterable[Candidate], rules: Rules, *, now: datetime) -> list[Ranked]:
    """Best first: by score, then newest, then by hash, so that the order never depends on the input's.

    Raises ValueError if ``now`` is naive.
    """
    if now.utcoffset() is None:
        raise ValueError("now must be an aware instant")
    keywords = [_compiled(term, points) for term, points in rules.keywords.items()]
    ranked = []
    for candidate in candidates:
        rationale = tuple(_reasons(candidate, rules, keywords, now))
        score = sum(reason.points for reason in rationale)
        ranked.append(Ranked(candidate=candidate, score=score, rationale=rationale))
    return sorted(ranked, key=_order)


def _order(ranked: Ranked) -> tuple[int, float, str, int]:
    item = ranked.candidate.item
    newest_first = -item.published_at.timestamp() if item.published_at else float("inf")
    return -ranked.score, newest_first, item.content_hash, ranked.candidate.id


def _compiled(term: str, points: int) -> _Keyword:
    spellings = []
    for spelling in term.split("|"):
        text = _comparable(spelling.strip())
        # Not \b: a Chinese character beside an English word does not make it another word.
        word = re.compile(rf"(?<![a-z0-9_]){re.escape(text)}(?![a-z0-9_])") if text.isascii() else None
        spellings.append(_Spelling(text, word))
    return points, tuple(spellings)


def _comparable(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _reasons(candidate: Candidate, rules: Rules, keywords: Sequence[_Keyword], now: datetime) -> Iterator[Reason]:
    item = candidate.item
    yield from _keyword_reasons(_comparable(item.title), _comparable(item.summary), rules, keywords)
    if item.published_at is not None:
        age = max(now - item.published_at, timedelta())  # a date in the future earns no more than now
        span = timedelta(hours=rules.freshness_hours)
        if points := rules.freshness * max(span - age, timedelta()) // span:
            yield Reason(rule="freshness", points=points, detail=str(age // timedelta(hours=1)))
    if weight := max(-MAX_SOURCE_WEIGHT, min(MAX_SOURCE_WEIGHT, candidate.source_weight)):
        yield Reason(rule="source", points=weight, detail=candidate.source_name)
    if points := min(rules.also_in * len(candidate.also_in), rules.also_in_most):
        yield Reason(rule="also_in", points=points, detail=", ".join(candidate.also_in))


def _keyword_reasons(title: str, summary: str, rules: Rules, keywords: Sequence[_Keyword]) -> Iterator[Reason]:
    for points, spellings in keywords:
        if found := next((s for s in spellings if s.found_in(title)), None):
            yield Reason(rule="keyword_in_title", points=points * rules.in_title_factor, detail=found.text)
        elif found := next((s for s in spellings if s.found_in(summary)), None):
            yield Reason(rule="keyword", points=points, detail=found.text)
