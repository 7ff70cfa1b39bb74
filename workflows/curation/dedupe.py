"""One story, once: the same news from several sources becomes one candidate that names the others.

Losing a story is worse than showing one twice, so in doubt two items stay two: titles that differ in a number
are different stories ("Notice 12", "Notice 13"); so are two items of one source that differ in title or link;
so are similar titles that were published days apart.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from workflows.curation.normalise import digest_of, folded
from workflows.curation.rank import Candidate

SIMILAR_PERCENT = 85  # Jaccard index over the shingles of two titles
_SHINGLE = 3  # characters
_SHORTEST_TITLE = 16  # columns; shorter titles ("Penalty decision") say too little to be compared
_NUMBER = re.compile(r"\d+|[〇零一二三四五六七八九十百千两]+")
_APART = timedelta(days=3)
_MOST_COMPARED = 40  # clusters that one title is compared with: bounds the cost of a hostile feed


@dataclass(slots=True)
class _Story:
    """What fold needs to know of a candidate, computed once."""

    candidate: Candidate
    title: str
    numbers: tuple[str, ...]
    shingles: frozenset[str]
    identity: tuple[str, str, str]
    key: str


class _Cluster:
    """Items that tell one story; the first is the one shown."""

    def __init__(self, first: _Story) -> None:
        self.first = first
        self.others: list[Candidate] = []
        self._identities = {first.candidate.source_name: first.identity}

    def takes(self, story: _Story) -> bool:
        """One source does not tell one story in two ways."""
        return self._identities.get(story.candidate.source_name, story.identity) == story.identity

    def add(self, story: _Story) -> None:
        self.others.append(story.candidate)
        self._identities[story.candidate.source_name] = story.identity

    def folded(self) -> Candidate:
        shown = self.first.candidate
        if not self.others:
            return shown
        sources = {name for other in self.others for name in (other.source_name, *other.also_in)}
        ids = {id_ for other in self.others for id_ in (other.id, *other.folded_ids)}
        return replace(
            shown,
            also_in=tuple(sorted((sources | set(shown.also_in)) - {shown.source_name})),
            folded_ids=tuple(sorted(ids | set(shown.folded_ids))),
        )


def fold(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with repetitions folded into the one of the weightiest, then earliest source.

    The result does not depend on the order of the input. Cost grows linearly with the number of candidates
    for real feeds, and at worst with 40 comparisons each.
    """
    stories = _stories(candidates)
    rarity = Counter(shingle for story in stories for shingle in story.shingles)
    clusters: list[_Cluster] = []
    by_key: defaultdict[str, list[_Cluster]] = defaultdict(list)
    by_shingle: defaultdict[tuple[tuple[str, ...], str], list[_Cluster]] = defaultdict(list)
    for story in stories:
        slots = [(story.numbers, shingle) for shingle in _rarest(story.shingles, rarity)]
        home = next((c for c in by_key[story.key] if c.takes(story)), None)
        if home is not None:
            home.add(story)
            continue
        home = _similar(story, (c for slot in slots for c in reversed(by_shingle[slot])))
        if home is not None:
            home.add(story)
        else:
            home = _Cluster(story)
            clusters.append(home)
            for slot in slots:
                by_shingle[slot].append(home)
        by_key[story.key].append(home)  # so that a third source finds the story by either of its links
    return [cluster.folded() for cluster in clusters]


def _stories(candidates: Sequence[Candidate]) -> list[_Story]:
    """In order of preference, with the key of each settled."""
    titles = [folded(candidate.item.title) for candidate in candidates]
    shared = _shared_pages(candidates, titles)
    stories = []
    for candidate, title in zip(candidates, titles, strict=True):
        item = candidate.item
        key = item.story_hash if item.story_hash not in shared else digest_of("title", title)
        comparable = sum(1 if char.isascii() else 2 for char in title) >= _SHORTEST_TITLE
        shingles = {title[i : i + _SHINGLE] for i in range(len(title) - _SHINGLE + 1)} if comparable else ()
        stories.append(
            _Story(
                candidate=candidate,
                title=title,
                numbers=tuple(sorted(_NUMBER.findall(title))),
                shingles=frozenset(shingles),
                identity=(item.url, title, "" if item.url else folded(item.summary)),
                key=key,
            )
        )
    return sorted(stories, key=_preference)


def _shared_pages(candidates: Sequence[Candidate], titles: Sequence[str]) -> set[str]:
    """Story keys that one source uses under several titles: a page that many items link, not a story."""
    seen: dict[tuple[str, str], str] = {}
    shared = set()
    for candidate, title in zip(candidates, titles, strict=True):
        if seen.setdefault((candidate.source_name, candidate.item.story_hash), title) != title:
            shared.add(candidate.item.story_hash)
    return shared


def _preference(story: _Story) -> tuple[int, float, str, str, int]:
    candidate = story.candidate
    published = candidate.item.published_at
    earliest_first = published.timestamp() if published else float("inf")
    return (
        -candidate.source_weight,
        earliest_first,
        candidate.item.content_hash,
        candidate.source_name,
        candidate.id,
    )


def _rarest(shingles: frozenset[str], rarity: Counter[str]) -> list[str]:
    """The shingles that two similar titles cannot all miss: s % of n leaves n - s·n + 1."""
    needed = -(-SIMILAR_PERCENT * len(shingles) // 100)  # rounded up
    count = len(shingles) - needed + 1 if shingles else 0
    return sorted(shingles, key=lambda shingle: (rarity[shingle], shingle))[:count]


def _similar(story: _Story, clusters: Iterable[_Cluster]) -> _Cluster | None:
    compared: set[int] = set()
    for cluster in clusters:
        if len(compared) >= _MOST_COMPARED:
            return None
        if id(cluster) in compared:
            continue
        compared.add(id(cluster))
        other = cluster.first
        if cluster.takes(story) and _near(story, other) and _alike(story, other):
            return cluster
    return None


def _near(story: _Story, other: _Story) -> bool:
    one, two = story.candidate.item.published_at, other.candidate.item.published_at
    return one is None or two is None or abs(one - two) <= _APART


def _alike(story: _Story, other: _Story) -> bool:
    sizes = len(story.shingles), len(other.shingles)
    if 100 * min(sizes) < SIMILAR_PERCENT * max(sizes):
        return False
    common = len(story.shingles & other.shingles)
    union = sum(sizes) - common
    return 100 * common >= SIMILAR_PERCENT * union
