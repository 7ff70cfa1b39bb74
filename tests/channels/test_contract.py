"""Every registered channel, whatever the far side does (the cases are in contract.py)."""

import dataclasses
import re
import socket
import threading
from typing import Any

import pytest
from django import forms

from compliance_bot.guardrails.http import GuardedSession
from tests.channels.contract import CASES, HARNESSES, NO_HTTP, Case, Harness, every_text_of, reply, says, send
from tests.guardrails import line
from workflows.channels import Channel, DeliveryError, OutcomeUnknown, Receipt, Rejected, TryLater, registry
from workflows.domain.content import Content

CONTENT = Content(title="公告", blocks=("Please **read** this.",))


@pytest.fixture(params=sorted(HARNESSES))
def channel(request: pytest.FixtureRequest) -> Channel:
    return registry.get(request.param)


@pytest.fixture
def harness(channel: Channel) -> Harness:
    assert channel.kind in HARNESSES, f"add a Harness for {channel.kind} to tests/channels/contract.py"
    return HARNESSES[channel.kind]


def shorten(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: Any = getattr(channel, "limits", None)
    assert limits, f"{channel.kind} must take its time limits from a class attribute called limits"
    short = dataclasses.replace(limits, connect=0.3, read=0.3, total=0.6)
    monkeypatch.setattr(type(channel), "limits", short)


def deliver(channel: Channel, harness: Harness, origin: str, *allow: str) -> Receipt:
    config = harness.config(origin)
    with GuardedSession(allow=allow) as session:
        return send(
            channel,
            channel.render(CONTENT, config)[0],
            address=harness.address,
            token=harness.token,
            config=config,
            secrets=harness.secrets_at(origin),
            http=session,
        )


def assert_fit_to_be_stored(error: DeliveryError, harness: Harness) -> None:
    assert re.fullmatch(r"[a-z0-9_-]{1,30}", error.code)
    assert re.fullmatch(r"[A-Za-z].{10,400}\.", str(error)), "the message is a sentence on one line"
    texts = every_text_of(error)
    assert not [name for name, value in harness.secrets.items() if value in texts]


def test_every_kind_has_a_harness_and_every_harness_a_kind() -> None:
    assert {channel.kind for channel in registry} == set(HARNESSES) | NO_HTTP


def test_an_acknowledged_message_gives_a_receipt_without_secrets(channel: Channel, harness: Harness) -> None:
    with line(says(reply(harness.status, harness.accepted))) as place:
        receipt = deliver(channel, harness, f"http://{place}", place)
    assert not [value for value in harness.secrets_at(f"http://{place}").values() if value in repr(receipt)]


@pytest.mark.parametrize("name", CASES)
def test_what_the_far_side_does_decides_what_is_raised(
    channel: Channel, harness: Harness, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case: Case = CASES[name]
    connections: list[int] = []
    talk = case.talk(harness)

    def counted(connection: socket.socket, over: threading.Event) -> None:
        if connection.recv(1, socket.MSG_PEEK):  # not that of ``line`` itself, which ends the case
            connections.append(1)
        talk(connection, over)

    if case.hangs:
        shorten(channel, monkeypatch)
    raises = harness.otherwise.get(name, case.raises)
    with line(counted) as place:
        if raises is None:
            deliver(channel, harness, f"{case.scheme}://{place}", place)
        else:
            with pytest.raises(DeliveryError) as caught:
                deliver(channel, harness, f"{case.scheme}://{place}", place)
            assert type(caught.value) is raises
            assert_fit_to_be_stored(caught.value, harness)
    assert len(connections) == 1, "sent, or tried, more than once"


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, each in HARNESSES.items() for name in each.unreadable]
)
def test_a_reply_in_almost_the_right_shape_is_not_believed(kind: str, name: str) -> None:
    channel, harness = registry.get(kind), HARNESSES[kind]
    with line(says(reply(harness.status, harness.unreadable[name]))) as place, pytest.raises(DeliveryError) as caught:
        deliver(channel, harness, f"http://{place}", place)
    assert type(caught.value) is OutcomeUnknown
    assert_fit_to_be_stored(caught.value, harness)


def test_a_refused_connection_is_tried_later(channel: Channel, harness: Harness) -> None:
    with socket.socket() as bound:  # bound but not listening: nobody else can take the port
        bound.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(DeliveryError) as caught:
            deliver(channel, harness, f"http://{place}", place)
    assert type(caught.value) is TryLater
    assert_fit_to_be_stored(caught.value, harness)


def test_an_address_that_is_not_allowed_is_not_dialled(channel: Channel, harness: Harness) -> None:
    with pytest.raises(DeliveryError) as caught:
        deliver(channel, harness, "http://127.0.0.1:9")
    assert (type(caught.value), caught.value.code) == (TryLater, "address_refused")
    assert_fit_to_be_stored(caught.value, harness)


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_missing_secret_is_the_channels_fault_and_nothing_is_sent(
    channel: Channel, harness: Harness, value: str | None
) -> None:
    for name in channel.secret_fields:
        secrets = {**harness.secrets_at("http://127.0.0.1:9"), name: value}
        given = {key: text for key, text in secrets.items() if text is not None}
        config = harness.config("http://127.0.0.1:9")
        with GuardedSession() as session, pytest.raises(Rejected) as caught:
            send(
                channel,
                channel.render(CONTENT, config)[0],
                address=harness.address,
                token=harness.token,
                config=config,
                secrets=given,
                http=session,
            )
        assert caught.value.channel_broken


def test_the_declaration_is_complete(channel: Channel, harness: Harness) -> None:
    assert issubclass(channel.config_form, forms.Form)
    assert set(harness.secrets) == set(channel.secret_fields)
    assert not set(channel.config_form.base_fields) & set(channel.secret_fields), "configuration holds a secret"
    assert str(channel.label)
    assert channel.per_minute > 0
    form = channel.config_form(dict(harness.config("https://example.com")))
    assert form.is_valid(), form.errors


@pytest.mark.parametrize(
    "blocks", [(), ("one",), ("", "one", ""), ("字" * 9000,), tuple(f"{n} " + "x" * 500 for n in range(40))]
)
def test_parts_are_counted_from_one_and_rendering_is_repeatable(
    channel: Channel, harness: Harness, blocks: tuple[str, ...]
) -> None:
    content = Content(title="公告", blocks=blocks)
    config = harness.config("https://example.com")
    parts = channel.render(content, config)
    assert [(part.number, part.of) for part in parts] == [(n, len(parts)) for n in range(1, len(parts) + 1)]
    assert parts
    assert all(part.text.strip() for part in parts)
    assert channel.render(content, config) == parts
