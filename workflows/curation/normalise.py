"""One shape for what sources publish, and the two keys that say whether it was seen before."""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote_plus, urlsplit

from selectolax.lexbor import LexborHTMLParser

from workflows.domain.items import SourceItem
from workflows.domain.text import strip_invisible

MAX_TITLE = 300  # characters
MAX_SUMMARY = 2000  # characters
MAX_URL = 2000  # characters; a longer one would not survive the way to a phone

MAX_MARKUP = 40_000
"""Characters of markup that are read, attributes not counted. The parser takes quadratic time for deep
nesting: a megabyte of ``<div>`` takes minutes, 40 000 characters of it a tenth of a second."""

TRACKING_PREFIXES = ("utm_", "mtm_", "pk_", "hsa_", "vero_", "oly_")
TRACKING_PARAMETERS = frozenset(
    """
    gclid gclsrc dclid wbraid gbraid fbclid msclkid yclid twclid ttclid igshid igsh li_fat_id
    mc_cid mc_eid mkt_tok _hsenc _hsmi _ga _gl ref_src ref_url cmpid ncid
    spm scm share_token share_source share_medium share_plat share_from share_tag share_id shareuid
    from isappinstalled nsukey chksm scene ascene sharer_shareid sharer_shareinfo pass_ticket exportkey
    """.split()  # noqa: SIM905 - forty quoted names read worse
)
"""Query parameters that say how a reader came, not what is read (search engines, social networks, WeChat)."""

_DROPPED_ELEMENTS = ["script", "style", "template", "noscript", "iframe", "object", "svg"]
_MARKUP = re.compile(r"<[/!?a-zA-Z]|&[#a-zA-Z]")
_NOT_A_TAG = re.compile(r"<(?![/!?]?[a-zA-Z][^<>]*+>)")
_ATTRIBUTES = re.compile(r"<([a-zA-Z][a-zA-Z0-9-]{0,20}+)[\s/][^<>]*+>")
_BLOCK_TAG = re.compile(
    r"(?=</?(?:p|div|br|li|ul|ol|dl|dt|dd|tr|td|th|table|h[1-6]|hr|pre|blockquote|section|article|figcaption)\b)",
    re.IGNORECASE,
)
_AMPERSANDS = re.compile(r"&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)
_MARKUP_CHARACTERS = str.maketrans("<>&", "   ")
_ROUNDS = 6
_LONGEST_TAG = 300

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\]")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SAFE_IN_PATH = "/:@!$&'()*+,;=-._~%"
_SAFE_IN_QUERY = _SAFE_IN_PATH + "?"

_BETWEEN_DIGITS = re.compile(r"(?<=\d)[\W_]+(?=\d)")
_PUNCTUATION = re.compile(r"[^\w\x00]+|_+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalItem:
    """An item as people may read it: plain text, one canonical URL ("" where there is no http or https one).

    ``content_hash`` is the item's identity within its source; ``story_hash`` the story's, across sources.
    Both are SHA-256 in hex. ``title`` is never longer than MAX_TITLE, ``summary`` than MAX_SUMMARY.
    """

    external_id: str
    url: str
    title: str
    summary: str
    author: str
    published_at: datetime | None
    content_hash: str
    story_hash: str


def normalise(item: SourceItem) -> NormalItem:
    """The item cleaned; a missing title is taken from the summary, else from the URL's host.

    Never raises on content. A fixed point: normalising what came out changes nothing.
    """
    external_id = strip_invisible(item.external_id).strip()
    url = canonical_url(item.url)
    summary = _shorten(plain(item.summary), MAX_SUMMARY)
    title = _shorten(plain(item.title), MAX_TITLE) or _shorten(summary, MAX_TITLE) or urlsplit(url).netloc
    return NormalItem(
        external_id=external_id,
        url=url,
        title=title,
        summary=summary,
        author=_shorten(plain(item.author), MAX_TITLE),
        published_at=item.published_at,
        content_hash=_content_hash(external_id, url, title, summary),
        story_hash=_story_hash(url, title),
    )


def plain(html_or_text: str) -> str:
    """HTML or text as one line of NFC text, without scripts, styles, tags, entities or invisible characters.

    Text that was escaped twice is read like text that was escaped once, so the result is a fixed point:
    ``plain(plain(x)) == plain(x)``.
    """
    text = html_or_text if len(html_or_text) <= MAX_MARKUP else _cut_markup(html_or_text)
    for _ in range(_ROUNDS):
        again = _tidy(_unmarked(text))
        if again == text or not _MARKUP.search(again):
            return again
        text = again
    return _tidy(text.translate(_MARKUP_CHARACTERS))  # nested deeper than any honest feed


def canonical_url(url: str) -> str:
    """The URL in one ASCII spelling, without tracking parameters, credentials or anchor; "" if not http(s).

    An anchor that begins with "/" or "!" is a page of a single-page site and stays.
    """
    try:
        parts = urlsplit(strip_invisible(url).strip())
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError:
        return ""
    host = _ascii_host(parts.hostname or "")
    if scheme not in _DEFAULT_PORTS or not host:
        return ""
    authority = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    path = _encoded(parts.path, _SAFE_IN_PATH) or "/"
    query = "&".join(_encoded(pair, _SAFE_IN_QUERY) for pair in parts.query.split("&") if not _tracks(pair))
    route = _encoded(parts.fragment, _SAFE_IN_QUERY) if parts.fragment.startswith(("/", "!")) else ""
    canonical = f"{scheme}://{authority}{path}" + (f"?{query}" if query else "") + (f"#{route}" if route else "")
    return canonical if len(canonical) <= MAX_URL else ""


def folded(text: str) -> str:
    """``text`` for comparison: no case, width, punctuation or spaces, digits kept apart (1.5 is not 15)."""
    wide = unicodedata.normalize("NFKC", text).casefold()
    kept_apart = _BETWEEN_DIGITS.sub("\x00", wide)
    return _PUNCTUATION.sub("", kept_apart).replace("\x00", " ") or wide.strip()


def digest_of(*parts: str) -> str:
    """SHA-256 in hex over the parts, which cannot run into each other."""
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def is_a_page(url: str) -> bool:
    """Whether a canonical URL names more than a site's front page, which every item of a feed may link."""
    parts = urlsplit(url)
    return bool(parts.path.strip("/") or parts.query or parts.fragment)


def _content_hash(external_id: str, url: str, title: str, summary: str) -> str:
    if external_id:
        return digest_of("id", _canonical_id(external_id))
    if url:
        return digest_of("url", url)
    return digest_of("text", folded(title), folded(summary))


def _canonical_id(external_id: str) -> str:
    """A GUID that is a URL loses its tracking parameters but keeps its anchor.

    Status pages publish every incident as ``https://status.example/#incident-17``: without the anchor all of
    them would be one item, and all but the first would be lost.
    """
    base, _, anchor = external_id.partition("#")
    url = canonical_url(base)
    return f"{url}#{anchor}" if url and anchor else url or external_id


def _story_hash(url: str, title: str) -> str:
    return digest_of("url", url) if is_a_page(url) else digest_of("title", folded(title))


def _cut_markup(text: str) -> str:
    """At most MAX_MARKUP characters of a long text, attributes not counted, not ending inside a tag."""
    text = _tidy(_ATTRIBUTES.sub(r"<\1>", text))
    if len(text) <= MAX_MARKUP:
        return text
    text = text[:MAX_MARKUP]
    opened = text.rfind("<", MAX_MARKUP - _LONGEST_TAG)
    return text[:opened] if opened > text.rfind(">") else text


def _without_comments(text: str) -> str:
    """By hand, because a lazy pattern takes quadratic time on comments that never close."""
    if "<![CDATA[" in text:
        text = text.replace("<![CDATA[", "").replace("]]>", "")
    kept, start = [], 0
    while (opened := text.find("<!--", start)) >= 0 and (closed := text.find("-->", opened + 4)) >= 0:
        kept.append(text[start:opened])
        start = closed + 3
    return "".join([*kept, text[start:]])


def _unmarked(text: str) -> str:
    """One layer of tags and entities taken off."""
    if not _MARKUP.search(text):
        return text
    text = _AMPERSANDS.sub("&", text)
    tree = LexborHTMLParser(_BLOCK_TAG.sub(" ", _NOT_A_TAG.sub("&lt;", _without_comments(text))))
    tree.strip_tags(_DROPPED_ELEMENTS)
    root = tree.root
    return root.text() if root is not None else ""


def _tidy(text: str) -> str:
    """One line, composed, nothing invisible. Composed twice, as removal brings characters together."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(unicodedata.normalize("NFC", strip_invisible(text)).split())


def _shorten(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1].rstrip("\u200d \ufe0f") + "…"


def _ascii_host(host: str) -> str:
    """The host in lower-case ASCII (punycode: a look-alike name is seen for what it is); "" if invalid."""
    if ":" in host:
        host = f"[{host}]"
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return ""
    host = host.lower()
    return host if _HOST.fullmatch(host) else ""


def _encoded(part: str, safe: str) -> str:
    return quote(_BARE_PERCENT.sub("%25", part), safe=safe)


def _tracks(pair: str) -> bool:
    name = unquote_plus(pair.partition("=")[0]).lower()
    return not pair or name in TRACKING_PARAMETERS or name.startswith(TRACKING_PREFIXES)
