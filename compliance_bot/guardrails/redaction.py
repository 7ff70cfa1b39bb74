"""Nothing secret leaves in text: log records, exceptions, audit text.

``redact`` knows the shapes that secrets have in URLs, headers, JSON and Python reprs. It errs on the side of
masking, but leaves prose alone: a name counts only with a separator and a value behind it.

``install`` redacts every log record of the process at its birth. A handler's filter would come too late:
the next handler, or a library's own, would still see the secret.
"""

import logging
import re
from collections.abc import Callable
from typing import Any

MASK = "[redacted]"

# Every pattern below takes time linear in the text: repetitions are possessive or bounded, and none starts
# again inside a run that it has already refused. tests/guardrails/test_redaction.py holds them to it.
_FLAGS = re.IGNORECASE | re.VERBOSE | re.ASCII | re.DOTALL

# The end of a secret's name; what stands before does not matter (client_secret, X-Vault-Token, corpSecret).
# "key" is different: primary_key and monkey are harmless, so it must stand alone. The rest of an escaped
# newline, or of an encoded "?" or "&", in front of it is not part of the name.
_NAME = r"""
    (?: token | secret | passw(?:or)?d | passphrase | authorization
      | (?: api | access | secret | private | webhook | robot | aes ) [_-]? key
      | (?: (?<![a-z0-9_]) | (?<=\\[nrt]) | (?<=%3f) | (?<=%26) | (?<=\\u0026) ) key )
"""
# Names that are no words of prose: without quotes and with a colon they are a header, or YAML.
_HEADER_NAME = r"""
    (?: corp_?secret | (?: client | app )[_-]?secret | access[_-]?token | refresh[_-]?token
      | api[_-]?key | access[_-]key | (?<![a-z0-9]) x-[a-z-]{0,30}? (?: token | key | secret ) )
"""
_WORD_HEADER = r"(?: (?:set-)?cookie | authorization )"

# "name": "value", name='value', ('Cookie', 'value'), {'name': ['value']}
_BEFORE_STRING = rf"""
    (?: {_NAME} (?: [\\"']{{0,2}} \s{{0,4}} = | [\\"']{{1,2}} \s{{0,4}} : ) | {_HEADER_NAME} \s{{0,4}} :
      | {_WORD_HEADER} [\\"']{{1,2}} \s{{0,4}} [:,] ) \s{{0,4}} \[? [bru]{{0,2}}
"""
_STRINGS = {
    '"': r'(?: [^"\\] | \\. )*+',
    "'": r"(?: [^'\\] | \\. )*+",
    # JSON inside a JSON string: a quote of the value itself is written \\\" there.
    r'\\"': r'(?: [^"\\] | \\\\ (?: \\. | [^"\\] ) )*+',
}
_NAMED_STRING = [
    re.compile(rf"(?P<keep> {_BEFORE_STRING} {quote} ) {body} (?P<end> {quote} )?+", _FLAGS)
    for quote, body in _STRINGS.items()
]

# name=value and X-Name: value. An unquoted "password: ..." is prose unless what follows looks like one.
# JSON's null hides nothing; an object is looked into by itself; a string has been seen to above.
_NAMED_BARE = re.compile(
    rf"""(?P<keep>
           (?: {_NAME} (?: [\\"']{{0,2}} [ \t]{{0,4}} (?: = | %3d ) | [\\"']{{1,2}} [ \t]{{0,4}} : )
             | {_HEADER_NAME} [ \t]{{0,4}} :
             | passw(?:or)?d [ ]{{0,4}} : (?= [ ]{{0,4}} [^\s\d]{{0,64}} \d ) (?= [ ]{{0,4}} \S{{6}} ) )
           [ \t]{{0,4}} (?! (?:null|none) (?: [\s,;&}})\]] | $ ) | \[? (?: \{{ | [bru]{{0,2}} \\?["'] ) ) )
         (?P<value> (?: [^\s&"'<>\\] | ["'] (?=[a-z0-9]) | \\(?![rntu"']) )++ )""",
    _FLAGS,
)
_SENTENCE_END = ",;.)}"

# A header's value runs to the end of its line, or of the string in which a repr shows the line.
_LINE = r"""(?: [^\r\n"'\\] | \\(?![rn]) | ["'] (?![\r\n,)}\]]|$) )++"""
_HEADER_LINE = re.compile(
    rf"""(?P<keep> cookie [ \t]? : [ \t]? (?= [^\s=;"']{{1,200}} = )
                 | authorization [ \t]? [:=] [ \t]?
                   (?= (?: bearer|basic|digest|token|negotiate|apikey|aws4-hmac-sha256 ) [ ]
                     | [^\s"'\\]++ (?: [\s"'\\]{{0,2}} $ | [\r\n"'\\] ) ) )
         {_LINE}""",
    _FLAGS,
)
# Without its header only a value with a digit or padding is taken for one: "bearer instruments" and
# "basic authentication" are prose.
_SCHEME = re.compile(
    r"""(?P<keep> (?<![a-z0-9]) (?: bearer | basic ) [ ]{1,2} )
        (?= [a-z._~+/-]{0,200} [\d=] ) [a-z0-9._~+/=-]{8,}+""",
    _FLAGS,
)
_USERINFO = re.compile(r"""(?P<keep> :// ) (?: [^/\s?\#"'<>] | '(?![\s,)}\]]) )* (?P<end> @ )""", _FLAGS)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[A-Za-z0-9+/=\s:,.()\\]|-(?!----))*+"  # a key that is cut off is masked to its last character
    r"(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?"
)
_AWS_KEY_ID = re.compile(r"(?<![A-Za-z0-9])(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])")
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}+(?:\.[A-Za-z0-9_-]*+){2,4}")


def _keep_frame(match: re.Match[str]) -> str:
    """The name before the value and the quote after it, where the pattern has one."""
    end = match.groupdict().get("end") or ""
    return f"{match['keep']}{MASK}{end}"


def _keep_punctuation(match: re.Match[str]) -> str:
    value = match["value"]
    end = value[len(value.rstrip(_SENTENCE_END)) :]
    return f"{match['keep']}{MASK}{end}" if end != value else match[0]


# In this order: a rule may rely on what the earlier ones have masked. The hints are a quick look whether the
# rule can apply at all, as almost every log line holds none of them.
_HINTS = ("key", "token", "secret", "pass", "authorization", "cookie")
_RULES: list[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (("private key",), _PRIVATE_KEY, MASK),
    *((_HINTS, pattern, _keep_frame) for pattern in _NAMED_STRING),
    (("cookie", "authorization"), _HEADER_LINE, _keep_frame),
    (("bearer", "basic"), _SCHEME, _keep_frame),
    (_HINTS, _NAMED_BARE, _keep_punctuation),
    (("://",), _USERINFO, _keep_frame),
    (("akia", "asia", "aroa", "aida"), _AWS_KEY_ID, MASK),
    (("eyj",), _JWT, MASK),
]
_ANY_HINT = re.compile("|".join(sorted({re.escape(hint) for hints, _, _ in _RULES for hint in hints})))


def redact(text: str) -> str:
    """``text`` with the values of secrets replaced by ``[redacted]``; doing it twice changes nothing more."""
    lowered = text.lower()
    if not _ANY_HINT.search(lowered):
        return text
    for hints, pattern, replacement in _RULES:
        if any(hint in lowered for hint in hints):
            text = pattern.sub(replacement, text)
    return text


def install() -> None:
    """Redact every log record of this process from now on; once is enough, twice does no harm."""
    previous = logging.getLogRecordFactory()
    if not isinstance(previous, _RedactingFactory):
        logging.setLogRecordFactory(_RedactingFactory(previous))


class _RedactingFactory:
    """Makes log records that hold no arguments and no exception, only text that has been redacted.

    What a handler would find in ``args`` or ``exc_info`` it could format by itself, around the redaction.
    Fields given as ``extra`` are added after the birth of a record: nothing secret belongs there.
    """

    def __init__(self, previous: Callable[..., logging.LogRecord]) -> None:
        self._previous = previous

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._previous(*args, **kwargs)
        record.msg, record.args = redact(_message(record)), ()
        if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            record.exc_info = None
        if record.stack_info:
            record.stack_info = redact(str(record.stack_info))
        return record


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a foreign __str__ may raise anything; a log call never does
        # Left alone, logging would print the arguments, unredacted, when the handler fails on them.
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        return f"{template} (its arguments could not be formatted: {type(error).__name__})"
