"""The application world: tokens, messages to members, departments and tags, recall. No sockets in here.

Members whose userid begins with "gone" do not exist, those that begin with "unlicensed" have no licence; everybody else
does. Like the real service it drops what one member gets too much of, and says nothing.
"""

import hashlib
import json
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from compliance_bot.sandbox.callbacks import Callback, click
from compliance_bot.sandbox.wecom import BAD_PARAMETER, CHECKS, OK, TOO_LONG, Clock, Refused, Upload, read_json

Show = Callable[["AppMessage"], None]

TOKEN_SECONDS = 7200
TEXT_BYTES = 2048
MOST = {"touser": 1000, "toparty": 100, "totag": 100}
PER_MEMBER = {60: 30, 3600: 1000}
RECALL_SECONDS = 24 * 3600
LONGEST_INTERVAL = 4 * 3600

_CORP = re.compile(r"[A-Za-z0-9_-]{4,64}")


@dataclass
class AppMessage:
    """One accepted call, and whom it was shown to."""

    msgid: str
    at: float
    agent: int
    msgtype: str
    content: str
    shown_to: tuple[str, ...]
    recalled: bool = False
    task_id: str = ""
    buttons: tuple[tuple[str, str], ...] = ()
    """(key, text) of each that calls back."""


@dataclass
class _Seen:
    """When a member got messages lately."""

    at: deque[float] = field(default_factory=lambda: deque(maxlen=1000))


class Company:
    """One company with its applications; any corp id and secret will do, but a secret that begins with "wrong"."""

    def __init__(self, *, clock: Clock, show: Show) -> None:
        self._clock = clock
        self._show = show
        self._lock = threading.Lock()
        self._tokens: dict[str, float] = {}
        self._messages: list[AppMessage] = []
        self._repeats: dict[str, float] = {}
        self._seen: dict[str, _Seen] = {}
        self._cards: dict[str, AppMessage] = {}
        self._callback: Callback | None = None
        self.calls: dict[str, int] = {}
        """How often each call was made."""

    def gettoken(self, corp_id: str, secret: str) -> dict[str, Any]:
        """What the service answers to GET /cgi-bin/gettoken."""
        with self._lock:
            self._count("gettoken")
            if not _CORP.fullmatch(corp_id):
                return Refused(40013, "invalid corpid").answer()
            if not secret or secret.startswith("wrong"):
                return Refused(40001).answer()
            token = secrets.token_urlsafe(32)
            self._tokens[token] = self._clock() + TOKEN_SECONDS
        return {**OK, "access_token": token, "expires_in": TOKEN_SECONDS}

    def expire_tokens(self) -> None:
        """The platform may revoke tokens early."""
        with self._lock:
            self._tokens.clear()

    def messages(self) -> list[AppMessage]:
        with self._lock:
            return list(self._messages)

    def calls_back(self, callback: Callback) -> None:
        """From now on clicks are told there."""
        with self._lock:
            self._callback = callback

    def click(self, msgid: str, user: str, key: str) -> int:
        """A member presses a card's button: the status with which the callback was answered.

        Raises ValueError with a sentence where there is no such button, or nobody to tell.
        """
        with self._lock:
            found = next((message for message in self._messages if message.msgid == msgid), None)
            if found is None or key not in dict(found.buttons) or user not in found.shown_to:
                raise ValueError("there is no such button on a card of this member")
            if self._callback is None:
                raise ValueError("nobody is called back: POST /callback first")
            code = secrets.token_hex(16)
            self._cards[code] = found
            callback = self._callback
        return callback.tell(click(found.agent, user, {"key": key, "task_id": found.task_id, "response_code": code}))

    def call(self, path: str, token: str, body: bytes) -> dict[str, Any]:
        """What the service answers to POST /cgi-bin/``path``."""
        known = {
            "message/send": self._send,
            "message/recall": self._recall,
            "message/update_template_card": self._update_card,
        }
        try:
            with self._lock:
                self._count(path)
                self._require(token)
                return known[path](read_json(body))
        except Refused as refusal:
            return refusal.answer()

    def upload(self, token: str, kind: str, upload: Upload) -> dict[str, Any]:
        """What the service answers to POST /cgi-bin/media/upload."""
        try:
            with self._lock:
                self._count("media/upload")
                self._require(token)
            return upload(kind)
        except Refused as refusal:
            return refusal.answer()

    def _count(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1

    def _require(self, token: str) -> None:
        if not token:
            raise Refused(41001, "access_token missing")
        if token not in self._tokens:
            raise Refused(40014)
        if self._tokens[token] <= self._clock():
            raise Refused(42001, "access_token expired")

    def _send(self, request: dict[str, Any]) -> dict[str, Any]:
        to = {name: _listed(request, name) for name in MOST}
        if not any(to.values()):
            raise Refused(BAD_PARAMETER, "no touser, toparty or totag")
        if type(request.get("agentid")) is not int:
            raise Refused(301002, "agentid not of this token")
        msgtype, content = _content(request)
        now = self._clock()
        users = [name.lower() for name in to["touser"]]
        gone = [name for name in users if name.startswith("gone")]
        unlicensed = [name for name in users if name.startswith("unlicensed")]
        reached = [name for name in users if name not in {*gone, *unlicensed}]
        if not reached and not to["toparty"] and not to["totag"]:
            raise Refused(81013, "user & party & tag all invalid")
        others = [*(f"party:{name}" for name in to["toparty"]), *(f"tag:{name}" for name in to["totag"])]
        shown: tuple[str, ...] = ()
        if not self._is_repeated(request, now):
            shown = tuple(name for name in (*reached, *others) if self._fits(name, now))
        message = AppMessage(secrets.token_hex(12), now, request["agentid"], msgtype, content, shown)
        if msgtype == "template_card":
            message.task_id, message.buttons = _buttons(request["template_card"])
        self._messages.append(message)
        self._show(message)
        said: dict[str, Any] = {
            **OK,
            "invaliduser": "|".join(gone),
            "unlicenseduser": "|".join(unlicensed),
            "msgid": message.msgid,
        }
        if msgtype == "template_card":
            said["response_code"] = secrets.token_hex(16)
            self._cards[said["response_code"]] = message
        return said

    def _is_repeated(self, request: dict[str, Any], now: float) -> bool:
        """The same JSON within its interval is accepted and not shown again."""
        if request.get("enable_duplicate_check") != 1:
            return False
        interval = min(int(request.get("duplicate_check_interval", 1800)), LONGEST_INTERVAL)
        same = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        before = self._repeats.get(same)
        self._repeats[same] = now if before is None or now - before >= interval else before
        return before is not None and now - before < interval

    def _fits(self, member: str, now: float) -> bool:
        seen = self._seen.setdefault(member, _Seen()).at
        if any(sum(0 <= now - at < window for at in seen) >= most for window, most in PER_MEMBER.items()):
            return False
        seen.append(now)
        return True

    def _recall(self, request: dict[str, Any]) -> dict[str, Any]:
        found = next((message for message in self._messages if message.msgid == request.get("msgid")), None)
        if found is None:
            raise Refused(BAD_PARAMETER, "invalid msgid")
        if self._clock() - found.at > RECALL_SECONDS:
            raise Refused(301058, "out of recall time")
        found.recalled = True
        return dict(OK)

    def _update_card(self, request: dict[str, Any]) -> dict[str, Any]:
        """A code updates its card once."""
        card = self._cards.pop(str(request.get("response_code")), None)
        button = request.get("button")
        if card is None or not isinstance(button, dict):
            raise Refused(40077, "invalid response_code")
        card.content = f"{card.content}\n[{button.get('replace_name', '')}]"
        return dict(OK)


def _buttons(card: dict[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The task id, and the buttons that call back; one of type 1 opens an address instead."""
    listed = card.get("button_list") or []
    calling = (button for button in listed if isinstance(button, dict) and button.get("type") != 1)
    return str(card.get("task_id", "")), tuple((str(one.get("key")), str(one.get("text"))) for one in calling)


def _listed(request: dict[str, Any], name: str) -> list[str]:
    value = request.get(name, "")
    if not isinstance(value, str):
        raise Refused(BAD_PARAMETER, f"invalid {name}")
    listed = list(filter(None, value.split("|")))
    if len(listed) > MOST[name]:
        raise Refused({"touser": 40031, "toparty": 82002, "totag": 82003}[name], f"too many in {name}")
    return listed


def _content(request: dict[str, Any]) -> tuple[str, str]:
    """(msgtype, what is shown). Text that is too long is cut in silence, Markdown refused."""
    msgtype = request.get("msgtype")
    part = request.get(msgtype) if isinstance(msgtype, str) else None
    if not isinstance(msgtype, str) or not isinstance(part, dict):
        raise Refused(BAD_PARAMETER, "invalid message type")
    if msgtype in {"text", "markdown"} and isinstance(part.get("content"), str):
        content = part["content"].encode(errors="replace")
        if msgtype == "markdown" and len(content) > TEXT_BYTES:
            raise Refused(TOO_LONG)
        part = {"content": content[:TEXT_BYTES].decode(errors="ignore")}
    check = CHECKS.get(msgtype)
    if check is None:
        raise Refused(BAD_PARAMETER, "invalid message type")
    return msgtype, check(msgtype, part)
