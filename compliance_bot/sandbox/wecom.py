"""The WeCom world: what a group robot's webhook accepts, refuses and remembers. No sockets in here.

The limits are those of the real service: UTF-8 bytes of content, 20 messages in 60 seconds per robot, and
HTTP 200 with an errcode for everything that the service itself refuses.
"""

import base64
import binascii
import hashlib
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email import message_from_bytes
from pathlib import Path
from typing import Any

Clock = Callable[[], float]
Upload = Callable[[str], dict[str, Any]]

LIMITS = {"text": 2048, "markdown": 4096, "markdown_v2": 4096}  # UTF-8 bytes of content
MESSAGES_PER_WINDOW = 20
WINDOW_SECONDS = 60
KEPT_AT_START = 500
KEPT_IN_MEMORY = 20_000
IMAGE_BYTES = 2 * 1024 * 1024
MEDIA_BYTES = {"image": IMAGE_BYTES, "file": 20 * 1024 * 1024, "voice": 2 * 1024 * 1024}
ARTICLES = 8

BUSY = -1
BAD_PARAMETER = 40008
TOO_LONG = 40058
EMPTY = 44004
TOO_MANY_ARTICLES = 45008
TOO_OFTEN = 45009
BAD_KEY = 93000
ERRMSG = {
    BUSY: "system busy",
    40001: "invalid credential",
    40007: "invalid media_id",
    40014: "invalid access_token",
    TOO_LONG: "exceed max length",
    TOO_OFTEN: "api freq out of limit",
    45033: "api concurrent out of limit",
    60020: "not allow to access from your ip",
    85002: "content contains a banned word",
    BAD_KEY: "invalid webhook url",
    93004: "robot is disabled",
    93008: "not in group",
}

OK = {"errcode": 0, "errmsg": "ok"}
_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")


class Refused(Exception):
    """The service says no, with one of its own codes."""

    def __init__(self, errcode: int, errmsg: str = "") -> None:
        self.errcode = errcode
        self.errmsg = errmsg or ERRMSG.get(errcode, "error")
        super().__init__(f"{errcode} {self.errmsg}")

    def answer(self) -> dict[str, Any]:
        return {"errcode": self.errcode, "errmsg": self.errmsg}


@dataclass(frozen=True)
class Message:
    """One message as the group sees it; n counts all messages of this world."""

    n: int
    key: str
    at: float
    msgtype: str
    content: str
    mentioned: tuple[str, ...] = ()
    msgid: str = ""
    buttons: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# What each message type must hold. A check returns what the page shows, or refuses.


def _words(msgtype: str, body: dict[str, Any]) -> str:
    content = body.get("content", "")
    if not isinstance(content, str):
        raise Refused(BAD_PARAMETER, f"invalid {msgtype}.content")
    if not content.strip():
        raise Refused(EMPTY, f"empty content in {msgtype}")
    try:
        size = len(content.encode())
    except UnicodeEncodeError as problem:  # JSON can carry half a surrogate pair; UTF-8 cannot
        raise Refused(BAD_PARAMETER, f"invalid {msgtype}.content") from problem
    if size > LIMITS[msgtype]:
        raise Refused(TOO_LONG, f"{msgtype}.content exceed max length {LIMITS[msgtype]}")
    return content


def _text_field(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Refused(BAD_PARAMETER, f"invalid {name}")
    return value


def _news(_msgtype: str, body: dict[str, Any]) -> str:
    articles = body.get("articles")
    if not isinstance(articles, list) or not articles:
        raise Refused(EMPTY, "empty articles")
    if len(articles) > ARTICLES:
        raise Refused(TOO_MANY_ARTICLES, f"more than {ARTICLES} articles")
    shown = []
    for article in articles:
        if not isinstance(article, dict):
            raise Refused(BAD_PARAMETER, "invalid article")
        title, url = _text_field(article, "title"), _text_field(article, "url")
        if not title or not url.startswith(("http://", "https://")):
            raise Refused(BAD_PARAMETER, "an article needs a title and an url")
        lines = (title, _text_field(article, "description"), url)
        shown.append("\n".join(line for line in lines if line))
    return "\n\n".join(shown)


def _image(_msgtype: str, body: dict[str, Any]) -> str:
    try:
        raw = base64.b64decode(_text_field(body, "base64"), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise Refused(BAD_PARAMETER, "invalid base64") from problem
    if not raw:
        raise Refused(EMPTY, "empty image")
    if len(raw) > IMAGE_BYTES:
        raise Refused(TOO_LONG, f"image exceed max length {IMAGE_BYTES}")
    if not raw.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        raise Refused(BAD_PARAMETER, "image is neither JPG nor PNG")
    if hashlib.md5(raw, usedforsecurity=False).hexdigest() != _text_field(body, "md5").lower():
        raise Refused(BAD_PARAMETER, "md5 does not match the image")
    kind = "PNG" if raw.startswith(b"\x89PNG") else "JPG"
    return f"[image · {kind} · {len(raw)} B]"


def _file(msgtype: str, body: dict[str, Any]) -> str:
    media_id = _text_field(body, "media_id")
    if not media_id:
        raise Refused(40007, ERRMSG[40007])
    return f"[{msgtype} · {media_id}]"


def _text_card(_msgtype: str, body: dict[str, Any]) -> str:
    title, url = _text_field(body, "title"), _text_field(body, "url")
    if not title or not url.startswith(("http://", "https://")):
        raise Refused(BAD_PARAMETER, "a text card needs a title and an url")
    return "\n".join(line for line in (title, _text_field(body, "description"), url) if line)


def _card(_msgtype: str, body: dict[str, Any]) -> str:
    if body.get("card_type") not in ("text_notice", "news_notice", "button_interaction"):
        raise Refused(BAD_PARAMETER, "invalid card_type")
    if body["card_type"] == "button_interaction" and not (body.get("button_list") and body.get("task_id")):
        raise Refused(BAD_PARAMETER, "buttons need a button_list and a task_id")
    main, action = body.get("main_title") or {}, body.get("card_action")
    if not isinstance(main, dict) or not isinstance(action, dict) or action.get("type") not in (1, 2):
        raise Refused(BAD_PARAMETER, "invalid main_title or card_action")
    title, subtitle = _text_field(main, "title"), _text_field(body, "sub_title_text")
    if not title and not subtitle:
        raise Refused(EMPTY, "empty main_title.title and sub_title_text")
    lines = (title, _text_field(main, "desc"), subtitle, _text_field(action, "url"))
    return "\n".join(line for line in lines if line)


CHECKS: dict[str, Callable[[str, dict[str, Any]], str]] = {
    "text": _words,
    "markdown": _words,
    "markdown_v2": _words,
    "news": _news,
    "image": _image,
    "file": _file,
    "voice": _file,
    "template_card": _card,
    "textcard": _text_card,
}


def read_json(body: bytes) -> dict[str, Any]:
    """A request body; refuses what is no JSON object."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise Refused(BAD_PARAMETER, "invalid json request") from problem
    if not isinstance(request, dict):
        raise Refused(BAD_PARAMETER, "invalid json request")
    return request


def _read(request: dict[str, Any]) -> tuple[str, str, tuple[str, ...]]:
    """(msgtype, content, mentioned) of a request; refuses what the service would refuse."""
    msgtype = request.get("msgtype")
    if not isinstance(msgtype, str) or msgtype not in CHECKS or msgtype == "textcard":
        raise Refused(BAD_PARAMETER, "invalid message type")
    part = request.get(msgtype)
    if not isinstance(part, dict):
        raise Refused(EMPTY, f"empty {msgtype}")
    content = CHECKS[msgtype](msgtype, part)
    return msgtype, content, _mentioned(part) if msgtype == "text" else ()


def _require_key(key: str) -> None:
    if not _KEY.fullmatch(key) or key.startswith("unknown"):
        raise Refused(BAD_KEY)


def keep_media(kind: str, body: bytes, content_type: str) -> dict[str, Any]:
    """The answer to an upload: an id that names the file. Refuses what is too large, or no file."""
    name, content = _uploaded(body, content_type)
    if kind not in MEDIA_BYTES:
        raise Refused(BAD_PARAMETER, "invalid media type")
    if not 5 < len(content) <= MEDIA_BYTES[kind]:
        raise Refused(45001 if content else EMPTY, "media size out of limit")
    return {**OK, "type": kind, "media_id": f"{name}-{hashlib.sha256(content).hexdigest()[:16]}"}


def _uploaded(body: bytes, content_type: str) -> tuple[str, bytes]:
    """(name, content) of the file in a form's field "media"."""
    form = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    for part in form.walk():
        content = part.get_payload(decode=True)
        if isinstance(content, bytes) and part.get_param("name", header="content-disposition") == "media":
            return part.get_filename() or "file", content
    raise Refused(41005, "media data missing")


def _mentioned(part: dict[str, Any]) -> tuple[str, ...]:
    people: list[str] = []
    for name in ("mentioned_list", "mentioned_mobile_list"):
        listed = part.get(name) or []
        if not isinstance(listed, list) or not all(isinstance(person, str) for person in listed):
            raise Refused(BAD_PARAMETER, f"invalid {name}")
        people += listed
    return tuple(people)


@dataclass(frozen=True)
class Fault:
    """A misfortune for one coming send."""

    kind: str  # errcode | status | hang | reset_before | reset_after
    code: int = BUSY
    status: int = 502
    seconds: float = 30.0

    def answer(self) -> dict[str, Any]:
        """What an errcode fault answers."""
        return {"errcode": self.code, "errmsg": ERRMSG.get(self.code, "error")}


_FAULT_FIELDS: dict[str, tuple[str, float, float]] = {
    "errcode": ("code", -1, 9_999_999),
    "status": ("status", 400, 599),
    "hang": ("seconds", 0, 600),
}
_FAULT_KINDS = (*_FAULT_FIELDS, "reset_before", "reset_after")


def read_faults(body: bytes) -> list[Fault]:
    """The faults of a POST /faults body; raises ValueError with a sentence."""
    try:
        listed = json.loads(body)["next"]
    except (ValueError, RecursionError, KeyError, TypeError) as problem:
        raise ValueError('the body must be {"next": [faults]}') from problem
    if not isinstance(listed, list):
        raise ValueError('"next" must be a list')
    return [_read_fault(entry) for entry in listed]


def _read_fault(entry: object) -> Fault:
    if not isinstance(entry, dict) or entry.get("kind") not in _FAULT_KINDS:
        raise ValueError(f"a fault has a kind, one of: {', '.join(_FAULT_KINDS)}")
    kind = str(entry["kind"])
    name, low, high = _FAULT_FIELDS.get(kind, ("kind", 0, 0))
    if set(entry) - {"kind", name}:
        raise ValueError(f"a fault of kind {kind} knows no {', '.join(sorted(set(entry) - {'kind', name}))}")
    if name == "kind" or name not in entry:
        return Fault(kind)
    value = entry[name]
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole or (kind == "hang" and isinstance(value, float))) or not low <= value <= high:
        raise ValueError(f"{name} must be a number from {low} to {high}")
    return Fault(kind, **{name: value})


class Journal:
    """Accepted messages in a file, one JSON object a line; a line torn by a kill costs only itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> list[Message]:
        """The newest messages, oldest first."""
        newest: deque[Message] = deque(maxlen=KEPT_AT_START)
        if self.path.exists():
            with self.path.open("rb") as lines:
                newest.extend(message for line in lines if (message := _stored(line)))
        return list(newest)

    def open(self) -> None:
        # Only this account may read it: somebody may have pasted a real key.
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "a+b")
        size = self._file.seek(0, os.SEEK_END)
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":  # a torn line must not swallow the next message
                self._file.write(b"\n")

    def append(self, message: Message) -> None:
        self._file.write(json.dumps(message.as_json(), ensure_ascii=False).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _stored(line: bytes) -> Message | None:
    try:
        fields = json.loads(line)
        buttons = tuple((key, text) for key, text in fields.get("buttons", ()))
        return Message(**{**fields, "mentioned": tuple(fields.get("mentioned", ())), "buttons": buttons})
    except (ValueError, TypeError, AttributeError):
        return None


class World:
    """All groups. A group exists as soon as its key is used; keys that start with "unknown" never do."""

    def __init__(self, data_dir: Path, *, clock: Clock = time.time, rate_limit: bool = True) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._rate_limit = rate_limit
        self._lock = threading.Lock()
        self._journal = Journal(data_dir / "wecom.jsonl")
        self._messages: deque[Message] = deque(self._journal.load(), maxlen=KEPT_IN_MEMORY)
        self._journal.open()
        self._sent: dict[str, deque[float]] = {}
        for message in self._messages:  # a restart must not open a second window
            self._sent_by(message.key).append(message.at)
        self._last = max((message.n for message in self._messages), default=0)
        self._faults: deque[Fault] = deque()

    @property
    def last(self) -> int:
        """The number of the newest message; 0 when there was none."""
        return self._last

    def send(self, key: str, body: bytes) -> dict[str, Any]:
        """What the service answers to POST /cgi-bin/webhook/send."""
        try:
            self._accept(key, body)
        except Refused as refusal:
            return refusal.answer()
        return dict(OK)

    def upload(self, key: str, kind: str, body: bytes, content_type: str) -> dict[str, Any]:
        """What the service answers to POST /cgi-bin/webhook/upload_media: an id that names the file."""
        try:
            _require_key(key)
            return keep_media(kind, body, content_type)
        except Refused as refusal:
            return refusal.answer()

    def show(self, key: str, msgtype: str, content: str, **more: Any) -> None:
        """Put what an application sent on the page, beside what robots say."""
        with self._lock:
            self._keep(Message(self._last + 1, key, self._clock(), msgtype, content, **more))

    def _keep(self, message: Message) -> None:
        self._journal.append(message)
        self._messages.append(message)
        self._last = message.n

    def messages(self, *, after: int = 0, newest: int | None = None) -> list[Message]:
        """Messages with a number above `after`, oldest first; only the `newest` of them if asked."""
        with self._lock:
            found: list[Message] = []
            for message in reversed(self._messages):  # a poll wants the last few of many
                if message.n <= after or len(found) == newest:
                    break
                found.append(message)
        return found[::-1]

    def plan_faults(self, faults: list[Fault]) -> None:
        """The next sends meet these, in order; replaces what was planned before."""
        with self._lock:
            self._faults = deque(faults)

    def take_fault(self) -> Fault | None:
        with self._lock:
            return self._faults.popleft() if self._faults else None

    def close(self) -> None:
        with self._lock:
            self._journal.close()

    def _accept(self, key: str, body: bytes) -> None:
        _require_key(key)
        msgtype, content, mentioned = _read(read_json(body))
        with self._lock:
            now = self._clock()
            sent = self._sent_by(key)
            in_window = sum(0 <= now - at < WINDOW_SECONDS for at in sent)
            if self._rate_limit and in_window >= MESSAGES_PER_WINDOW:
                raise Refused(TOO_OFTEN)
            self._keep(Message(self._last + 1, key, now, msgtype, content, mentioned))
            sent.append(now)

    def _sent_by(self, key: str) -> deque[float]:
        # The last 20 instants are all that the sliding window can ever ask about.
        return self._sent.setdefault(key, deque(maxlen=MESSAGES_PER_WINDOW))
