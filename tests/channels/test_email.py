"""Mail over a real SMTP conversation on loopback: what arrives, and what each answer of the server means."""

from collections.abc import Iterator

import pytest
from django.conf import settings

from compliance_bot.guardrails.http import GuardedSession
from tests import smtp
from tests.channels import contract
from workflows.channels import DeliveryError, OutcomeUnknown, Receipt, Rejected, TryLater, registry
from workflows.channels.email import EmailForm
from workflows.domain.content import Attached, Content, Part
from workflows.domain.errors import Invalid

EMAIL = registry.get("email")
CONTENT = Content(title="季度提醒", blocks=("Please **read** [the rules](https://corp.example/r).", "<b>not bold</b>"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[smtp.MailServer]:
    with smtp.serving() as mail:
        monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
        monkeypatch.setattr(settings, "EMAIL_HOST", "127.0.0.1")
        monkeypatch.setattr(settings, "EMAIL_PORT", mail.port)
        yield mail


def send(part: Part, *, address: str = "amy@corp.example", attachment: bytes = b"", **config: object) -> Receipt:
    with GuardedSession() as http:
        return contract.send(EMAIL, part, config=config, secrets={}, http=http, address=address, attachment=attachment)


def letter(**config: object) -> Part:
    return EMAIL.render(CONTENT, config)[0]


def test_arrives_as_plain_text_and_as_html_with_everything_foreign_escaped(server: smtp.MailServer) -> None:
    receipt = send(letter(), from_address="desk@corp.example", from_name="合规", unsubscribe="leave@corp.example")
    (mail,) = server.to("amy@corp.example")
    assert mail["Subject"] == "季度提醒"
    assert mail["From"] == "合规 <desk@corp.example>"
    assert mail["List-Unsubscribe"] == "<mailto:leave@corp.example>"
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert "Please read the rules https://corp.example/r." in plain.get_content()
    assert "&lt;b&gt;not bold&lt;/b&gt;" in html.get_content()
    assert mail["Message-ID"] == receipt.reference


def test_the_same_parcel_has_the_same_message_id(server: smtp.MailServer) -> None:
    assert send(letter()).reference == send(letter()).reference


def test_many_letters_go_over_one_connection(server: smtp.MailServer) -> None:
    part = letter()
    with GuardedSession() as http, EMAIL.connect(contract.means(config={}, secrets={}, http=http)) as sender:
        for number in range(20):
            sender(contract.parcel(part, f"user{number}@corp.example"))
    assert server.connections == 1
    assert len(server.addresses()) == 20


def test_files_go_with_it(server: smtp.MailServer) -> None:
    file = Attached(name="rules.pdf", media_type="application/pdf", size=9, sha256="0" * 64)
    content = Content(title="T", blocks=("see",), attachments=(file,))
    send(EMAIL.render(content, {})[0], attachment=b"%PDF-1.7\n")
    (mail,) = server.to("amy@corp.example")
    (attached,) = mail.iter_attachments()
    assert (attached.get_filename(), attached.get_content()) == ("rules.pdf", b"%PDF-1.7\n")


def test_an_unknown_mailbox_is_refused(server: smtp.MailServer) -> None:
    server.refuses.add("nobody@corp.example")
    with pytest.raises(Rejected) as caught:
        send(letter(), address="nobody@corp.example")
    assert (caught.value.code, caught.value.channel_broken) == ("smtp_550", False)


@pytest.mark.parametrize(
    ("verb", "answer", "raises", "code"),
    [
        ("MAIL", "550 not you", Rejected, "smtp_550"),
        ("MAIL", "451 later", TryLater, "smtp_451"),
        ("RCPT", "452 mailbox full", TryLater, "smtp_452"),
        ("DATA", "451 later", TryLater, "smtp_451"),
        ("DATA", "554 no", Rejected, "smtp_554"),
        ("BODY", "554 looks like spam", Rejected, "smtp_554"),
        ("BODY", "451 try later", TryLater, "smtp_451"),
        ("MAIL", "", TryLater, "reset"),
        ("RCPT", "", TryLater, "reset"),
        ("BODY", "", OutcomeUnknown, "reset"),
    ],
)
def test_each_answer_has_one_meaning(
    server: smtp.MailServer, verb: str, answer: str, raises: type[DeliveryError], code: str
) -> None:
    server.answers[verb] = answer
    with pytest.raises(DeliveryError) as caught:
        send(letter())
    assert (type(caught.value), caught.value.code) == (raises, code)


def test_a_server_that_cannot_be_reached_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
    monkeypatch.setattr(settings, "EMAIL_HOST", "127.0.0.1")
    monkeypatch.setattr(settings, "EMAIL_PORT", 9)
    with pytest.raises(TryLater):
        send(letter())


def test_without_a_mail_server_the_channel_is_out_of_order() -> None:
    with pytest.raises(Rejected, match="set EMAIL_URL") as caught:
        send(letter())
    assert caught.value.channel_broken


@pytest.mark.parametrize("address", ["amy", "amy@", "amy@corp.example\nBcc: all@corp.example", "<amy@corp.example>"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="Write a mail address"):
        EMAIL.clean_address(address)


def test_an_address_has_one_form() -> None:
    assert EMAIL.clean_address(" Amy@CORP.example ") == "Amy@corp.example"


def test_too_many_bytes_of_files_are_refused_before_anything_is_sent() -> None:
    file = Attached(name="film.mp4", media_type="video/mp4", size=16 * 2**20, sha256="0" * 64)
    with pytest.raises(Invalid, match="at most 15 MB"):
        EMAIL.render(Content(title="T", blocks=("see",), attachments=(file,)), {})


@pytest.mark.parametrize("where", ["http://corp.example/leave", "leave", "javascript:alert(1)"])
def test_unsubscribing_leads_to_a_mail_address_or_a_safe_web_address(where: str) -> None:
    assert "unsubscribe" in EmailForm({"unsubscribe": where}).errors
