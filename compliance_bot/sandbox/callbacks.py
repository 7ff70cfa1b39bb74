"""What WeCom tells an application: an encrypted, signed event, posted to the address that it named.

Written from the protocol and not from the product's side of it, so that each proves the other.
"""

import base64
import hashlib
import json
import os
import secrets
import struct
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit
from xml.sax.saxutils import escape

_BLOCK = 32
_PATIENCE = 5.0  # seconds, as the real service has


@dataclass(frozen=True)
class Callback:
    """Where events go, and what both sides know."""

    url: str
    token: str
    aes_key: str
    receive_id: str

    def tell(self, fields: dict[str, str]) -> int:
        """Post one event; the status of the answer. Raises OSError where nobody answers."""
        inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())
        encrypted = self._encrypt(f"<xml>{inner}</xml>".encode())
        timestamp, nonce = str(int(time.time())), secrets.token_hex(8)
        parts = "".join(sorted([self.token, timestamp, nonce, encrypted]))
        signature = hashlib.sha1(parts.encode(), usedforsecurity=False).hexdigest()
        query = urlencode({"msg_signature": signature, "timestamp": timestamp, "nonce": nonce})
        body = f"<xml><ToUserName>{escape(self.receive_id)}</ToUserName><Encrypt>{encrypted}</Encrypt></xml>".encode()
        request = urllib.request.Request(f"{self.url}?{query}", body, {"Content-Type": "text/xml"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310 - loopback, see read
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def _encrypt(self, message: bytes) -> str:
        # Only here: without callbacks the sandbox runs on the standard library alone.
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        key = base64.b64decode(self.aes_key + "=")
        plain = os.urandom(16) + struct.pack(">I", len(message)) + message + self.receive_id.encode()
        pad = _BLOCK - len(plain) % _BLOCK
        encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
        return base64.b64encode(encryptor.update(plain + bytes([pad]) * pad) + encryptor.finalize()).decode()


def read(body: bytes) -> Callback:
    """The callback of a POST /callback body; raises ValueError with a sentence."""
    try:
        given = json.loads(body)
        callback = Callback(**{name: str(given[name]) for name in ("url", "token", "aes_key", "receive_id")})
        size = len(base64.b64decode(callback.aes_key + "="))
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ValueError("the body must have url, token, aes_key and receive_id") from problem
    address = urlsplit(callback.url)
    if address.scheme not in {"http", "https"} or address.hostname not in {"127.0.0.1", "localhost"}:
        raise ValueError("the sandbox tells addresses on this computer only")
    if size != 32:
        raise ValueError("the aes_key must have 43 characters")
    return callback


def click(agent: int, user: str, card: dict[str, str]) -> dict[str, str]:
    """The fields of the event that a click on a card's button makes."""
    return {
        "FromUserName": user,
        "CreateTime": str(int(time.time())),
        "MsgType": "event",
        "Event": "template_card_event",
        "EventKey": card["key"],
        "TaskId": card["task_id"],
        "CardType": "button_interaction",
        "ResponseCode": card["response_code"],
        "AgentID": str(agent),
    }
