"""Notices reach everybody whom they can reach, and what fails is said and never thrown."""

import logging
import smtplib

import pytest
from django.conf import settings
from django.core import mail

from audit import notices


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_senders", {})


class Group:
    """A receiver that another room registered."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem
        self.told: list[tuple[str, str]] = []

    def __call__(self, subject: str, text: str) -> None:
        if self.problem:
            raise self.problem
        self.told.append((subject, text))


def test_without_receivers_nothing_is_tried() -> None:
    assert notices.receivers() == []
    assert notices.tell("Subject", "Text") == []
    assert mail.outbox == []


def test_each_address_gets_a_mail_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "AUDIT_MAIL", ["olivia@example.com", "oscar@example.com"])
    assert notices.tell("Trail\nsealed", "群发 text") == []
    assert [sent.to for sent in mail.outbox] == [["olivia@example.com"], ["oscar@example.com"]]
    assert (mail.outbox[0].subject, mail.outbox[0].body) == ("Trail sealed", "群发 text")


def test_what_others_registered_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "AUDIT_MAIL", ["olivia@example.com"])
    group = Group()
    notices.register("channel", group)
    assert notices.receivers() == ["olivia@example.com", "channel"]
    assert notices.tell("Subject", "Text") == []
    assert group.told == [("Subject", "Text")]


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (notices.NotTold("The channel is busy."), "broken: The channel is busy."),
        (notices.NotTold("https://api.example/send?key=abc123def"), "broken: https://api.example/send?key=[redacted]"),
        (KeyError("a slip"), "broken: an unexpected error; the log has it"),
    ],
)
def test_a_broken_receiver_is_named_and_logged_and_the_others_are_told(
    problem: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    group = Group()
    notices.register("broken", Group(problem))
    notices.register("group", group)
    with caplog.at_level(logging.ERROR):
        assert notices.tell("Subject", "Text") == [said]
    assert "a notice did not reach broken" in caplog.text
    assert group.told == [("Subject", "Text")]


@pytest.mark.parametrize("problem", [ConnectionRefusedError("refused"), smtplib.SMTPRecipientsRefused({})])
def test_a_mail_server_that_refuses_is_a_failure_for_each_address(
    problem: OSError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise problem

    monkeypatch.setattr("django.core.mail.backends.locmem.EmailBackend.send_messages", refuse)
    monkeypatch.setattr(settings, "AUDIT_MAIL", ["olivia@example.com", "oscar@example.com"])
    failures = notices.tell("Subject", "Text")
    assert [failure.partition(":")[0] for failure in failures] == settings.AUDIT_MAIL
