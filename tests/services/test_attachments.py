"""Files on a draft: bounded, each once, its author's alone, and of the type that they are."""

import pytest
from django.contrib.auth.models import User

from tests import people, world
from workflows.channels import Rejected
from workflows.domain.errors import Invalid, NotPermitted, WrongState
from workflows.models import Message
from workflows.services import attachments, messages
from workflows.services.attachments import MOST_BYTES, attach, detach

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return people.alice()


@pytest.fixture
def draft(alice: User) -> Message:
    return world.message(alice, world.audience(world.robot(alice)))


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.png", b"\x89PNG...", "image/png"),
        ("a.png", b"GIF89a", "application/octet-stream"),
        ("a.jpg", b"\xff\xd8\xff...", "image/jpeg"),
        ("a.amr", b"#!AMR...", "audio/amr"),
        ("a.amr", b"ID3", "application/octet-stream"),
        ("a.pdf", b"%PDF-1.7", "application/pdf"),
        ("a", b"bytes", "application/octet-stream"),
    ],
)
def test_a_file_is_what_it_is(draft: Message, alice: User, name: str, content: bytes, media_type: str) -> None:
    attached = attach(message=draft, name=name, content=content, by=alice)
    assert attached.media_type == media_type
    assert attachments.read_attachment(attached.sha256) == content


@pytest.mark.parametrize("content", [b"", b"x" * (MOST_BYTES + 1)], ids=["empty", "too large"])
def test_too_little_and_too_much_are_refused(draft: Message, alice: User, content: bytes) -> None:
    with pytest.raises(Invalid, match="between 1 byte and 20 MB"):
        attach(message=draft, name="a", content=content, by=alice)


def test_the_same_file_is_attached_once(draft: Message, alice: User) -> None:
    attach(message=draft, name="a", content=b"same bytes", by=alice)
    with pytest.raises(Invalid, match="attached already"):
        attach(message=draft, name="b", content=b"same bytes", by=alice)


def test_an_eleventh_is_refused(draft: Message, alice: User) -> None:
    for number in range(10):
        attach(message=draft, name="a", content=b"%d" % number, by=alice)
    with pytest.raises(Invalid, match="at most 10 files"):
        attach(message=draft, name="a", content=b"eleventh", by=alice)


def test_only_the_author_of_a_draft_adds_and_takes_off(draft: Message, alice: User) -> None:
    attached = attach(message=draft, name="a.pdf", content=b"%PDF-1.7", by=alice)
    with pytest.raises(NotPermitted):
        detach(attachment=attached, by=people.olivia())
    messages.submit(message_id=draft.pk, by=alice)
    with pytest.raises(WrongState):
        detach(attachment=attached, by=alice)


def test_what_was_removed_is_certainly_not_sent() -> None:
    with pytest.raises(Rejected):
        attachments.read_attachment("0" * 64)
