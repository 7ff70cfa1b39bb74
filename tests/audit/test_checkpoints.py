"""Checkpoints outside the database: in a file, by notice, and what a saved one tells later."""

import base64
import json
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from audit import checkpoints, keys, notices, sealing, triggers
from audit.models import AuditEvent, AuditLeaf, AuditSeal
from audit.recorder import record
from audit.vocabulary import AccessEvent, TrailEvent
from compliance_bot.guardrails import secrets
from workflows import tasks

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_senders", {})


def seal(count: int = 1) -> AuditSeal:
    for _ in range(count):
        record(AccessEvent.DENIED)
    sealing.sweep(timezone.now())
    return AuditSeal.objects.latest("n")


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("audit_checkpoint", *arguments, stdout=out)
    return out.getvalue()


def sent() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(what=TrailEvent.CHECKPOINT_SENT).order_by("pk"))


class TestTheFile:
    def lines(self) -> list[str]:
        return list(settings.AUDIT_CHECKPOINT_FILE.read_text().splitlines())

    def test_every_seal_is_a_line(self) -> None:
        seals = [seal(), seal()]
        told = [json.loads(line) for line in self.lines()]
        assert [line["n"] for line in told] == [1, 2]
        assert [line["seal_hash"] for line in told] == [bytes(one.seal_hash).hex() for one in seals]

    def test_a_line_that_was_cut_off_does_not_swallow_the_next(self) -> None:
        seal()
        with settings.AUDIT_CHECKPOINT_FILE.open("a") as file:
            file.write('{"n": 2, "se')
        newest = seal()
        assert json.loads(self.lines()[-1])["n"] == newest.n
        assert len(self.lines()) == 3

    def test_a_file_that_cannot_be_written_stops_no_seal(self, caplog: pytest.LogCaptureFixture) -> None:
        settings.AUDIT_CHECKPOINT_FILE.mkdir()
        newest = seal()
        assert AuditLeaf.objects.filter(seal_n=newest.n).exists()
        assert "its checkpoint could not be written" in caplog.text


class TestTheNote:
    def test_it_is_a_signed_note_that_anybody_can_check(self) -> None:
        seal(2)
        newest = seal(3)
        text, _, signature = said().partition("\n\n")
        origin, size, seal_hash, number = text.split("\n")
        assert (origin, int(size), number) == (checkpoints.ORIGIN, AuditEvent.objects.count(), f"seal {newest.n}")
        assert base64.b64decode(seal_hash) == bytes(newest.seal_hash)
        dash, signer, signed = signature.rstrip("\n").split(" ")
        assert (dash, signer) == ("—", checkpoints.ORIGIN)
        keys.signing_key().public_key().verify(base64.b64decode(signed)[4:], f"{text}\n".encode())

    def test_before_the_first_seal_there_is_none(self) -> None:
        with pytest.raises(CommandError, match="nothing is sealed"):
            said()


class TestASavedOne:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        seal(2)
        file = tmp_path / "saved.txt"
        file.write_text(
            f"From: compliance-bot\nSubject: Audit checkpoint\n\n{said()}\n-- \nsent by mail\n", newline="\r\n"
        )
        seal()
        return file

    def test_is_intact_when_the_trail_only_grew(self, saved: Path) -> None:
        assert said(str(saved)).startswith("Intact: seal 1 with its ")

    def test_stays_valid_when_the_key_is_rotated(self, saved: Path) -> None:
        keys.rotate()
        seal()
        assert said(str(saved)).startswith("Intact")

    @pytest.mark.parametrize(
        "sql",
        [
            "DELETE FROM audit_auditseal WHERE n = 1",
            "UPDATE audit_auditseal SET seal_hash = root WHERE n = 1",
            "UPDATE audit_auditseal SET size = size - 1 WHERE n = 1",
        ],
    )
    def test_tells_when_the_trail_was_replaced(self, saved: Path, sql: str) -> None:
        triggers.GUARDS.remove(connection)  # until this test is rolled back
        connection.cursor().execute(sql)
        with pytest.raises(CommandError, match="REPLACED or cut off"):
            said(str(saved))

    def test_that_was_changed_is_not_believed(self, saved: Path) -> None:
        saved.write_text(saved.read_text().replace("seal 1", "seal 2"))
        with pytest.raises(CommandError, match="its signature is not valid"):
            said(str(saved))

    def test_of_another_installation_is_not_believed(self, saved: Path) -> None:
        stranger = base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()
        secrets.get("local").write("audit-seal-keys", stranger)
        with pytest.raises(CommandError, match="not one of ours"):
            said(str(saved))

    @pytest.mark.parametrize(
        "text", ["", "hello", f"{checkpoints.ORIGIN}\n5\n", f"{checkpoints.ORIGIN}\nx\ny\nz\n\na b c"]
    )
    def test_that_is_none_is_said_so(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "other.txt"
        file.write_text(text)
        with pytest.raises(CommandError, match="There is no checkpoint in it"):
            said(str(file))

    def test_that_is_not_there_is_said_so(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="cannot be read"):
            said(str(tmp_path / "nothing"))


class TestTellingItDaily:
    def test_with_nobody_to_tell_nothing_is_recorded(self) -> None:
        seal()
        checkpoints.send_daily(timezone.now())
        assert sent() == []

    def test_with_nothing_sealed_nothing_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "AUDIT_MAIL", ["olivia@example.com"])
        checkpoints.send_daily(timezone.now())
        assert (sent(), mail.outbox) == ([], [])

    def test_the_nightly_task_mails_the_newest_and_it_can_be_checked_later(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(settings, "AUDIT_MAIL", ["olivia@example.com"])
        seal()
        tasks.nightly()  # its own findings are sealed before the checkpoint
        newest = AuditSeal.objects.get(n=2)
        (event,) = sent()
        assert event.outcome == "success"
        assert event.facts == {
            "n": newest.n,
            "seal_hash": bytes(newest.seal_hash).hex(),
            "receivers": ["olivia@example.com"],
            "failures": [],
        }
        file = tmp_path / "mail.txt"
        file.write_bytes(mail.outbox[0].message().as_bytes())
        assert said(str(file)).startswith("Intact")

    def test_once_a_day_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "AUDIT_MAIL", ["olivia@example.com"])
        with time_machine.travel("2026-03-01 01:00 +0800", tick=False) as traveller:
            seal()
            for hours in (0, 3, 20):
                checkpoints.send_daily(timezone.now())
                traveller.shift(timedelta(hours=hours))
            assert len(sent()) == 1
            traveller.shift(timedelta(hours=1))
            checkpoints.send_daily(timezone.now())
        assert len(sent()) == 2

    def test_a_failure_is_recorded_and_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(subject: str, text: str) -> None:
            raise notices.NotTold("The channel is busy.")

        seal()
        with monkeypatch.context() as patched:
            patched.setitem(notices._senders, "channel", broken)
            checkpoints.send_daily(timezone.now())
        (event,) = sent()
        assert (event.outcome, event.facts["failures"]) == ("failure", ["channel: The channel is busy."])
        monkeypatch.setattr(settings, "AUDIT_MAIL", ["olivia@example.com"])
        checkpoints.send_daily(timezone.now())
        assert [event.outcome for event in sent()] == ["failure", "success"]
