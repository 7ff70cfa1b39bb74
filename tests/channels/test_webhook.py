"""Webhooks: signed as Standard Webhooks has it, and a body that follows its contract."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from compliance_bot.guardrails.http import GuardedSession
from tests.channels import contract
from tests.channels.contract import reply
from tests.guardrails import line
from workflows.channels import registry
from workflows.channels.webhook import sign
from workflows.domain.content import Attached, Content, Entry
from workflows.domain.errors import Invalid

WEBHOOK = registry.get("webhook")
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/contracts/message.v1.json").read_text())
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONTENT = Content(
    title="公告",
    blocks=("One", "Two"),
    entries=(Entry(title="A", url="https://a.example"),),
    attachments=(Attached(name="r.pdf", media_type="application/pdf", size=9, sha256="0" * 64),),
)


def test_signs_the_published_vector() -> None:
    signature = sign(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signature == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def posted(address: str = "desk-1") -> tuple[dict[str, str], dict[str, Any], bytes]:
    """The headers (in small letters), the JSON and the bytes that arrive."""
    requests: list[bytes] = []

    def talk(connection: Any, over: Any) -> None:
        requests.append(contract.read_request(connection))
        connection.sendall(reply(200, b""))

    with line(talk) as place, GuardedSession(allow=[place]) as http:
        secrets = {"url": f"http://{place}/hook", "signing_key": KEY}
        part = WEBHOOK.render(CONTENT, {})[0]
        contract.send(WEBHOOK, part, config={}, secrets=secrets, http=http, address=address)
    head, _, body = requests[0].partition(b"\r\n\r\n")
    headers = dict(text.split(": ", 1) for text in head.decode().split("\r\n")[1:])
    return {name.lower(): value for name, value in headers.items()}, json.loads(body), body


def test_the_body_follows_its_contract_and_names_its_recipient() -> None:
    _headers, body, _raw = posted()
    Draft202012Validator(SCHEMA).validate(body)
    assert (body["recipient"], body["markdown"], body["digest"]) == ("desk-1", "One\n\nTwo", None)


def test_a_receiver_can_verify_it() -> None:
    headers, _body, raw = posted()
    assert headers["idempotency-key"] == headers["webhook-id"]
    signature = sign(KEY, headers["webhook-id"], headers["webhook-timestamp"], raw)
    assert headers["webhook-signature"] == f"v1,{signature}"


def test_a_message_that_is_too_long_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(Invalid, match="at most 256 KB") as refused:
        WEBHOOK.render(Content(title="T", blocks=("字" * 100_000,)), {})
    assert refused.value.field == "body"
