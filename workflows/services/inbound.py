"""What WeCom tells us: judged and kept at once, worked on later, each event once.

A repetition in the same envelope is known by its signature, the same event in another one by what it says: WeCom's own
pair of sender and second is not enough, as one person can do two things in one second.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from xml.etree import ElementTree

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from audit import context
from audit.context import uuid7
from audit.recorder import Outcome, record
from compliance_bot.guardrails.secrets import SecretError
from workflows.domain.errors import WorkflowError
from workflows.domain.events import Event
from workflows.domain.states import InboundState
from workflows.domain.wecom_crypto import Envelope, EnvelopeError
from workflows.models import CallbackApp, InboundEvent
from workflows.services import secrets
from workflows.services.queue import enqueue

logger = logging.getLogger(__name__)

WINDOW = timedelta(minutes=5)
"""An envelope is good for so long; its signature is remembered for longer."""
_STALE = timedelta(minutes=2)
_KEPT_FIELDS = 60
_LONGEST_VALUE = 2000
_IDENTIFYING = ("MsgId", "FromUserName", "CreateTime", "Event", "EventKey", "TaskId", "ResponseCode")


class NotTrusted(Exception):
    """The envelope is not WeCom's, not for us, or not of this moment. The message is for the log alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What arrived over HTTP."""

    signature: str
    timestamp: str
    nonce: str
    ciphertext: str


def verify(slug: str, delivered: Delivered, now: datetime) -> bytes:
    """The plaintext of WeCom's question whether this address is ours. Raises NotTrusted."""
    return _opened(_app(slug), delivered, now)


def receive(slug: str, delivered: Delivered, now: datetime) -> None:
    """Keep an event and hand it to a worker; a repetition changes nothing. Raises NotTrusted."""
    app = _app(slug)
    plain = _opened(app, delivered, now)
    payload = parsed(plain)
    event = InboundEvent(
        app=app,
        seen=hashlib.sha256(delivered.signature.encode()).hexdigest(),
        key=_key(payload, plain),
        kind=str(payload.get("Event") or payload.get("MsgType") or payload.get("msgtype") or "")[:60],
        from_user=_sender(payload)[:64],
        payload=payload,
        received_at=now,
        request_id=uuid7(),
    )
    try:
        with transaction.atomic(), context.system_acting(request_id=event.request_id):
            event.save(force_insert=True)
            record(Event.CALLBACK_RECEIVED, target=event, facts={"app": slug, "kind": event.kind})
            enqueue("workflows.tasks.inbound", event.pk)
    except IntegrityError:
        logger.info("a callback of %s came again", slug)


def ciphertext_of(body: bytes) -> str:
    """The encrypted part of an envelope in XML or JSON. Raises NotTrusted."""
    found = parsed(body)
    for name in ("Encrypt", "encrypt"):
        if isinstance(found.get(name), str):
            return str(found[name])
    raise NotTrusted("no ciphertext in the body")


def parsed(body: bytes) -> dict[str, Any]:
    """The fields of flat XML, or a JSON object; nothing else. Raises NotTrusted."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        return _from_xml(text)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise NotTrusted("neither XML nor JSON") from None
    if not isinstance(found, dict):
        raise NotTrusted("no JSON object")
    return found


def _from_xml(text: str) -> dict[str, Any]:
    # Entities are all that is dangerous in XML, and WeCom sends none: without a DOCTYPE there are none.
    if re.search(r"<!(?!\[CDATA\[)", text):
        raise NotTrusted("a declaration in XML")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - no declarations, see above
    except ElementTree.ParseError:
        raise NotTrusted("broken XML") from None
    return {child.tag[:60]: (child.text or "")[:_LONGEST_VALUE] for child in list(root)[:_KEPT_FIELDS]} | {
        child.tag: child.text or "" for child in root if child.tag == "Encrypt"
    }


def _app(slug: str) -> CallbackApp:
    app = CallbackApp.objects.select_related("token", "aes_key").filter(slug=slug, enabled=True).first()
    if app is None:
        raise NotTrusted(f"no callback is called {slug[:40]!r}")
    return app


def _opened(app: CallbackApp, delivered: Delivered, now: datetime) -> bytes:
    if not re.fullmatch(r"[0-9]{1,12}", delivered.timestamp):
        raise NotTrusted("no timestamp")
    if abs(now.timestamp() - int(delivered.timestamp)) > WINDOW.total_seconds():
        raise NotTrusted("not of this moment")
    try:
        token, aes_key = secrets.of_callback(app)
        return Envelope(token, aes_key, app.receive_id).open(
            signature=delivered.signature,
            timestamp=delivered.timestamp,
            nonce=delivered.nonce,
            ciphertext=delivered.ciphertext,
        )
    except (EnvelopeError, SecretError) as error:
        raise NotTrusted(str(error)) from None


def _key(payload: Mapping[str, Any], plain: bytes) -> str:
    """The same for the same event. Where nothing identifies it, its whole text does."""
    if payload.get("MsgId") or payload.get("msgid"):
        named: Any = ["message", payload.get("MsgId") or payload.get("msgid")]
    elif payload.get("Event"):
        named = [payload.get(name) for name in _IDENTIFYING]
    else:
        named = plain.decode("utf-8", "replace")
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _sender(payload: Mapping[str, Any]) -> str:
    sender = payload.get("FromUserName") or payload.get("from") or ""
    return str(sender.get("userid", "") if isinstance(sender, Mapping) else sender).lower()


# Working on it

Handler = Callable[[InboundEvent], None]
"""Carries an event out inside the transaction that marks it done. A WorkflowError is its refusal, in words."""

_handlers: dict[str, Handler] = {}


def handles(kind: str, handler: Handler) -> None:
    """Declare who deals with events of a kind; of other kinds we only take note."""
    _handlers[kind] = handler


def handle(event_id: int) -> None:
    """Work on one event, once: whoever marks it first."""
    refused = ""
    with transaction.atomic():
        event = InboundEvent.objects.select_for_update(of=("self",)).select_related("app").get(pk=event_id)
        if event.state != InboundState.NEW:
            return
        with context.system_acting(request_id=event.request_id):
            handler = _handlers.get(event.kind)
            try:
                if handler is not None:
                    handler(event)
            except WorkflowError as error:  # what was recorded of the refusal stays
                refused = str(error)
            _end(event, handler, refused)


def _end(event: InboundEvent, handler: Handler | None, refused: str) -> None:
    done = InboundState.DONE if handler is not None else InboundState.IGNORED
    event.state, event.why = InboundState.FAILED if refused else done, refused[:300]
    event.save(update_fields=["state", "why"])
    outcome = Outcome.FAILURE if refused else Outcome.SUCCESS
    record(Event.CALLBACK_HANDLED, target=event, why=refused, outcome=outcome, facts={"state": event.state})


def left_over(now: datetime) -> QuerySet[InboundEvent]:
    """Events whose worker never came."""
    return InboundEvent.objects.filter(state=InboundState.NEW, received_at__lte=now - _STALE)
