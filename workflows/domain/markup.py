"""The Markdown subset of a ``Content``, as other systems write it. The text may be foreign: whatever is not of the
subset stays text, escaped for where it goes."""

import re
from collections.abc import Callable
from html import escape

_HEADING = re.compile(r"(#{1,6}) +(.+)")
_INLINE = re.compile(
    r"`(?P<code>[^`\n]+)`"
    r"|\*\*(?=\S)(?P<bold>.+?)(?<=\S)\*\*"
    r"|\[(?P<label>[^\]\n]+)\]\((?P<url>https?://[^\s()<>]+)\)"
    r'|<font color="(?P<colour>info|comment|warning)">(?P<coloured>.*?)</font>'
    r"|<@(?P<who>[^<>\s]+)>"
)


def to_html(text: str) -> str:
    """Headings, bold, links, quotes, inline code, mentions and WeCom's three colours; everything is escaped."""
    return "".join(_html_line(line) for line in text.split("\n"))


def to_plain(text: str) -> str:
    """The same words without markup; a link's address follows its label."""
    return "\n".join(_inline(_without_mark(line), _plain, lambda rest: rest) for line in text.split("\n"))


def to_mrkdwn(text: str) -> str:
    """As Slack writes it: one star for bold, ``<url|label>`` for links."""
    return "\n".join(_inline(_bold_heading(line), _mrkdwn, for_slack) for line in text.split("\n"))


def to_markdown(text: str) -> str:
    """Common Markdown, without WeCom's own tags."""
    return "\n".join(_inline(line, _markdown, lambda rest: rest) for line in text.split("\n"))


def _inline(text: str, shape: Callable[[re.Match[str]], str], rest: Callable[[str], str]) -> str:
    """``shape`` for what is marked, ``rest`` for what stands between."""
    done, at = [], 0
    for match in _INLINE.finditer(text):
        done += [rest(text[at : match.start()]), shape(match)]
        at = match.end()
    return "".join([*done, rest(text[at:])])


def _html_line(line: str) -> str:
    if not line.strip():
        return '<p class="wecom-gap"></p>'
    if heading := _HEADING.fullmatch(line):
        return f'<p class="wecom-heading">{_html_inline(heading[2])}</p>'
    if line.startswith(">"):
        return f"<blockquote>{_html_inline(line[1:].strip())}</blockquote>"
    return f"<p>{_html_inline(line)}</p>"


def _html_inline(text: str) -> str:
    return _inline(text, _html, escape)


def _html(match: re.Match[str]) -> str:
    if code := match["code"]:
        return f"<code>{escape(code)}</code>"
    if bold := match["bold"]:
        return f"<strong>{_html_inline(bold)}</strong>"
    if url := match["url"]:
        rel = 'target="_blank" rel="noopener noreferrer nofollow"'
        return f'<a href="{escape(url)}" {rel}>{_html_inline(match["label"])}</a>'
    if colour := match["colour"]:
        return f'<span class="wecom-{colour}">{_html_inline(match["coloured"])}</span>'
    return f'<span class="wecom-mention">@{escape(match["who"])}</span>'


def _without_mark(line: str) -> str:
    """Without what opens a heading or a quote."""
    if heading := _HEADING.fullmatch(line):
        return heading[2]
    return line[1:].strip() if line.startswith(">") else line


def _plain(match: re.Match[str]) -> str:
    if url := match["url"]:
        return f"{to_plain(match['label'])} {url}"
    if who := match["who"]:
        return f"@{who}"
    return match["code"] or to_plain(match["bold"] or match["coloured"] or "")


def _bold_heading(line: str) -> str:
    heading = _HEADING.fullmatch(line)
    return f"**{heading[2].replace('**', '')}**" if heading else line


def _mrkdwn(match: re.Match[str]) -> str:
    if url := match["url"]:
        return f"<{for_slack(url)}|{for_slack(to_plain(match['label'])).replace('|', '¦')}>"
    if bold := match["bold"]:
        return f"*{to_mrkdwn(bold)}*" if "[" not in bold else to_mrkdwn(bold)
    if code := match["code"]:
        return f"`{for_slack(code)}`"
    return for_slack(_plain(match))


def for_slack(text: str) -> str:
    """Slack reads three characters as its own: an escaped ``<`` opens no mention of a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _markdown(match: re.Match[str]) -> str:
    if match["coloured"] is not None:
        return to_markdown(match["coloured"])
    if who := match["who"]:
        return f"@{who}"
    if bold := match["bold"]:
        return f"**{to_markdown(bold)}**"
    return match[0]
