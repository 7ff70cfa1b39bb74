"""Texts as search tokens: the same on every database, because they are made here and not there.

A word is a run of letters and digits, case folded. Chinese, Japanese and Korean have no spaces: there a token is each
two neighbouring characters, and the last one of a run by itself, so that any one or two characters can be found.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote

# Another way to tokenise needs another index: the version is part of the index's name.
VERSION = 1
_LONGEST = 64
_MOST = 4000
_CJK = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31bf\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUNS = re.compile(f"(?P<cjk>[{_CJK}]+)|(?P<word>[^\\W_{_CJK}]+)")


def of(text: str) -> Iterator[str]:
    """The tokens by which ``text`` is found."""
    for kind, run in _runs(text):
        if kind == "word":
            yield run
        else:
            yield from (run[place : place + 2] for place in range(len(run)))


def asked(text: str) -> list[str]:
    """The tokens that all have to be there for ``text`` to be found; one that ends with ``*`` only begins so."""
    found: list[str] = []
    for kind, run in _runs(text):
        if kind == "word":
            found.append(run)
        elif len(run) == 1:
            found.append(f"{run}*")
        else:
            found += [run[place : place + 2] for place in range(len(run) - 1)]
    if found and text.endswith("*") and not found[-1].endswith("*"):
        found[-1] += "*"
    return found


@lru_cache(maxsize=1024)
def named(field: str, value: str) -> str:
    """The token of an exact value, such as ``.who=alice``; no word looks like it or begins so."""
    return f".{field}={quote(unicodedata.normalize('NFKC', value).casefold(), safe='.:-')[:200]}"


def several(texts: Iterator[str]) -> list[str]:
    """The distinct tokens of many texts; a text of megabytes is found by its beginning."""
    found: dict[str, None] = {}
    for text in texts:
        for token in of(text):
            found[token] = None
            if len(found) >= _MOST:
                return list(found)
    return list(found)


def _runs(text: str) -> Iterator[tuple[str, str]]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    for match in _RUNS.finditer(folded):
        kind = match.lastgroup or ""
        yield kind, match[kind][:_LONGEST] if kind == "word" else match[kind]
