"""Exports prepared in the background: resumable, cancellable, their owner's alone, and gone when their time is over."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.http import StreamingHttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from audit import sealing
from audit.export import columns, files, jobs, rows
from audit.export.stream import Export
from audit.models import AuditEvent, AuditExport, AuditSeal
from audit.recorder import record
from audit.search import Search
from audit.vocabulary import AccessEvent
from tests import people
from tests.audit.many import fill
from workflows import roles, tasks
from workflows.services import clock

pytestmark = pytest.mark.django_db
FOREVER = float("inf")


@pytest.fixture
def audrey() -> User:
    return people.person("audrey", roles.AUDITOR)


def asked(owner: User, form: str = "csv") -> AuditExport:
    export = Export(search=Search(), form=form, columns=columns.DEFAULT, reason="Quarterly report")
    return jobs.ask(export, owner=owner)


def now_of(job: AuditExport) -> AuditExport:
    return AuditExport.objects.select_related("owner").get(pk=job.pk)


def ready(owner: User, form: str = "csv") -> AuditExport:
    job = asked(owner, form)
    jobs.work(job.pk)
    job = now_of(job)
    assert (job.state, job.problem) == ("ready", "")
    return job


def whole(job: AuditExport, form: str = "csv") -> bytes:
    """The same file, made in one go."""
    pieces = rows.pieces(Search(), columns.DEFAULT, form, below=job.below_pk or 0)
    return rows.heading(columns.DEFAULT, form) + b"".join(piece.data for piece in pieces)


def last(what: str) -> AuditEvent:
    event: AuditEvent = AuditEvent.objects.filter(what=what).latest("pk")
    return event


def left() -> list[str]:
    return sorted(path.name for path in Path(settings.AUDIT_EXPORT_DIR).glob("*"))


class TestAJob:
    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_makes_the_same_file_as_a_stream(self, audrey: User, form: str) -> None:
        fill(300)
        job = ready(audrey, form)
        assert files.finished(job).read_bytes() == whole(job, form)
        assert left() == [f"{job.key}.{form}"]

    @pytest.mark.parametrize("form", ["csv", "zip"])
    def test_works_in_slices(self, audrey: User, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(300)
        monkeypatch.setattr("audit.export.rows._NEIGHBOURS", 100)
        monkeypatch.setattr("audit.export.package._CHUNK", 100)
        monkeypatch.setattr("audit.export.jobs._SLICE", 0)
        job = asked(audrey, form)
        slices = 0
        while now_of(job).state in {"queued", "running"}:
            assert list(jobs.due(timezone.now())) == [job]
            jobs.work(job.pk)
            slices += 1
        assert slices > 3
        assert (now_of(job).state, now_of(job).rows_done) == (
            "ready",
            AuditEvent.objects.filter(pk__lt=now_of(job).below_pk).count(),
        )

    @pytest.mark.parametrize(("form", "unsealed"), [("csv", 2), ("zip", 0)])
    def test_tells_over_all_slices_which_seals_cover_it(
        self, audrey: User, form: str, unsealed: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(3000)
        sealing.sweep(timezone.now())
        for _ in range(2):
            record(AccessEvent.DENIED, why="not sealed")
        monkeypatch.setattr("audit.export.rows._NEIGHBOURS", 700)
        monkeypatch.setattr("audit.export.package._CHUNK", 700)
        monkeypatch.setattr("audit.export.jobs._SLICE", 0)
        job = asked(audrey, form)
        while now_of(job).state in {"queued", "running"}:
            jobs.work(job.pk)
        facts, seals = last("trail.export_finished").facts, AuditSeal.objects.count()
        assert (facts["first_seal"], facts["last_seal"], facts["unsealed"]) == (1, seals, unsealed)
        assert now_of(job).unsealed == unsealed

    def test_goes_on_after_a_crash_where_it_was_saved(self, audrey: User, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(300)
        monkeypatch.setattr("audit.export.rows._NEIGHBOURS", 100)
        job = asked(audrey)
        with monkeypatch.context() as once:
            once.setattr("audit.export.jobs._SLICE", 0)
            jobs.work(job.pk)
        with files.part(job, "rows").open("ab") as file:
            file.write(b"half a row, written but not saved")
        jobs.work(job.pk)
        assert files.finished(job).read_bytes() == whole(now_of(job))

    def test_that_crashed_at_the_very_end_is_finished_by_the_next_worker(
        self, audrey: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = asked(audrey)
        with monkeypatch.context() as once:
            once.setattr("audit.export.jobs.record", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                jobs.work(job.pk)
        jobs.work(job.pk)
        assert now_of(job).state == "ready"
        assert files.finished(job).read_bytes() == whole(now_of(job))

    def test_runs_for_its_owner_under_the_request_that_asked(self, audrey: User) -> None:
        job = ready(audrey)
        finished = last("trail.export_finished")
        assert (finished.who_kind, finished.on_behalf_of, finished.request_id) == ("system", "audrey", job.request_id)
        assert (finished.facts["sha256"], finished.facts["rows"]) == (job.sha256, job.rows_done)

    def test_of_somebody_who_may_no_longer_export_fails(self, audrey: User) -> None:
        job = asked(audrey)
        audrey.groups.clear()
        jobs.work(job.pk)
        assert (now_of(job).state, now_of(job).problem) == ("failed", "Its owner may no longer export.")
        assert last("trail.export_finished").outcome == "failure"

    def test_on_a_full_disk_fails_with_a_remedy_and_leaves_nothing(
        self, audrey: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_handle: int) -> None:
            raise OSError(28, "No space left on device")

        job = asked(audrey)
        monkeypatch.setattr(os, "fsync", full)
        jobs.work(job.pk)
        assert now_of(job).state == "failed"
        assert "exports: No space left on device. Make room" in now_of(job).problem
        assert (last("trail.export_finished").outcome, left()) == ("failure", [])

    def test_that_another_worker_writes_is_left_alone(self, audrey: User) -> None:
        job = asked(audrey)
        with files.resumed(files.part(job, "rows"), 0):
            jobs.work(job.pk)
        assert now_of(job).state == "running"
        assert now_of(job).bytes_done == 0

    def test_whose_package_would_be_too_large_says_so(self, audrey: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("audit.export.package.MOST", 10)
        fill(20)
        job = asked(audrey, "zip")
        jobs.work(job.pk)
        assert "at most 10 rows" in now_of(job).problem

    def test_keeps_its_file_from_others_on_the_machine(self, audrey: User) -> None:
        path = files.finished(ready(audrey))
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def _interrupt(*_arguments: Any, **_named: Any) -> None:
    raise KeyboardInterrupt


class TestTheClock:
    def test_hands_a_job_out_once(self, audrey: User) -> None:
        job = asked(audrey)
        clock.tick()
        clock.tick()
        assert [task.func() for task in OrmQ.objects.all()].count("workflows.tasks.export") == 1
        tasks.export(job.pk, {"request_id": str(job.request_id), "on_behalf_of": "audrey"})
        assert now_of(job).state == "ready"

    def test_hands_it_out_again_when_its_worker_vanished(self, audrey: User) -> None:
        job = asked(audrey)
        AuditExport.objects.update(state="running", lease_until=timezone.now() + timedelta(seconds=90))
        assert not jobs.due(timezone.now()).exists()
        assert list(jobs.due(timezone.now() + timedelta(seconds=91))) == [job]


class TestItsEnd:
    def test_cancelled_while_it_runs_it_stops_and_leaves_nothing(
        self, audrey: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job = asked(audrey)
        files.part(job, "rows").touch()
        assert jobs.cancel(job)
        jobs.work(job.pk)
        assert (now_of(job).state, left()) == ("cancelled", [])
        assert last("trail.export_cancelled").target_id == str(job.pk)

    def test_cancelled_in_the_middle_of_a_slice_it_stops_there(
        self, audrey: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(50)
        monkeypatch.setattr("audit.export.rows._NEIGHBOURS", 10)
        job = asked(audrey)
        real = rows.pieces

        def cancelling(*arguments: Any, **named: Any) -> Iterator[rows.Piece]:
            for piece in real(*arguments, **named):
                jobs.cancel(job)
                yield piece

        monkeypatch.setattr("audit.export.rows.pieces", cancelling)
        jobs.work(job.pk)
        assert (now_of(job).state, now_of(job).rows_done, left()) == ("cancelled", 0, [])

    def test_when_its_time_is_over_the_file_is_removed(self, audrey: User) -> None:
        job = ready(audrey)
        assert jobs.expire(timezone.now() + timedelta(days=6, hours=23), FOREVER)
        assert left() != []
        assert jobs.expire(timezone.now() + timedelta(days=7, hours=1), FOREVER)
        assert (now_of(job).state, left()) == ("expired", [])
        assert last("trail.export_expired").target_id == str(job.pk)


@pytest.fixture
def auditor(audrey: User) -> Client:
    client = Client()
    client.force_login(audrey)
    return client


class TestThePage:
    def test_the_search_in_the_address_chooses_what_is_exported(self, auditor: Client) -> None:
        for why in ("one", "two"):
            record(AccessEvent.DENIED, why=why)
        url = reverse("admin:audit_export") + "?what=access.denied"
        response = auditor.post(url, {"reason": "Report", "form": "jsonl"})
        assert isinstance(response, StreamingHttpResponse)
        assert b"".join(response).count(b"\n") == 2
        finished = last("trail.export_finished")
        assert (finished.who_label, finished.facts["query"]) == ("audrey", "what=access.denied")
        assert str(finished.request_id) == response.headers["X-Request-ID"]

    def test_says_how_many_and_which_columns_are_fixed(self, auditor: Client) -> None:
        record(AccessEvent.DENIED)
        html = auditor.get(reverse("admin:audit_export") + "?what=access.denied").content.decode()
        assert "1 event matches." in html
        assert "who, what, when, why, request, event" in html

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            ({"reason": "", "form": "csv"}, "This field is required."),
            ({"reason": "x", "form": "exe"}, "Select a valid choice."),
            ({"reason": "x", "form": "csv", "columns": ["canon"]}, "Select a valid choice."),
            ({"reason": "a\x00b", "form": "csv"}, "Null characters are not allowed."),
        ],
    )
    def test_bad_input_is_told_at_its_field(self, auditor: Client, data: dict[str, Any], said: str) -> None:
        assert said in auditor.post(reverse("admin:audit_export"), data).content.decode()
        assert not AuditEvent.objects.filter(what="trail.export_started").exists()

    def test_an_impossible_search_leads_back_to_the_list(self, auditor: Client) -> None:
        response = auditor.get(reverse("admin:audit_export") + "?since=never")
        assert (response.status_code, "since=never" in response.headers["Location"]) == (302, True)

    def test_without_the_permission_nobody_exports(self) -> None:
        client = Client()
        client.force_login(people.alice())
        assert client.get(reverse("admin:audit_export")).status_code == 403

    def test_a_large_one_is_prepared_and_then_downloaded(
        self, auditor: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("audit.search.COUNT_LIMIT", 2)
        fill(20)
        auditor.post(reverse("admin:audit_export"), {"reason": "Report", "form": "csv"})
        html = auditor.get(reverse("admin:audit_auditexport_changelist")).content.decode()
        assert "Queued" in html
        assert "exports.js" in html
        job = AuditExport.objects.get()
        jobs.work(job.pk)
        html = auditor.get(reverse("admin:audit_auditexport_changelist")).content.decode()
        url = reverse("admin:audit_export_download", args=[job.pk])
        assert url in html
        assert "exports.js" not in html
        response = auditor.get(url)
        assert b"".join(response) == files.finished(job).read_bytes()
        assert last("trail.export_downloaded").who_label == "audrey"

    def test_the_list_tells_how_many_rows_no_seal_covered(self, auditor: Client, audrey: User) -> None:
        sealing.sweep(timezone.now())
        for _ in range(137):
            record(AccessEvent.DENIED, why="not sealed")
        ready(audrey)
        html = auditor.get(reverse("admin:audit_auditexport_changelist")).content.decode()
        assert '<td class="field-unsealed">137</td>' in html

    def test_nobody_else_sees_or_downloads_or_cancels_it_not_even_a_superuser(self, audrey: User) -> None:
        job = ready(audrey)
        client = Client()
        client.force_login(people.sam())
        html = client.get(reverse("admin:audit_auditexport_changelist")).content.decode()
        assert "Quarterly report" not in html
        assert client.get(reverse("admin:audit_export_download", args=[job.pk])).status_code == 403
        assert client.post(reverse("admin:audit_export_cancel", args=[job.pk])).status_code == 403
        assert last("access.denied").who_label == "sam"
        assert now_of(job).state == "ready"

    def test_a_look_at_the_list_is_on_the_trail_and_its_refreshing_is_not_another(
        self, auditor: Client, audrey: User
    ) -> None:
        asked(audrey)
        url = reverse("admin:audit_auditexport_changelist")
        auditor.get(url)
        auditor.get(url, headers={"X-Refresh": "1"})
        event = AuditEvent.objects.get(what="trail.export_viewed")
        assert (event.who_label, event.target_type) == ("audrey", "")

    def test_nobody_hides_a_look_by_calling_it_a_refreshing(self, auditor: Client, audrey: User) -> None:
        ready(audrey)
        auditor.get(reverse("admin:audit_auditexport_changelist"), headers={"X-Refresh": "1"})
        assert AuditEvent.objects.filter(what="trail.export_viewed").count() == 1

    def test_a_look_at_one_export_names_it(self, auditor: Client, audrey: User) -> None:
        job = ready(audrey)
        assert auditor.get(reverse("admin:audit_auditexport_change", args=[job.pk])).status_code == 200
        event = AuditEvent.objects.get(what="trail.export_viewed")
        assert (event.who_label, event.target_type, event.target_id) == ("audrey", "audit.auditexport", str(job.pk))

    def test_a_look_that_was_denied_is_none(self, audrey: User) -> None:
        job = ready(audrey)
        client = Client()
        client.force_login(people.nora())
        client.get(reverse("admin:audit_auditexport_changelist"))
        client.get(reverse("admin:audit_auditexport_change", args=[job.pk]))
        client.force_login(people.sam())
        client.get(reverse("admin:audit_auditexport_change", args=[job.pk]))  # not theirs
        assert not AuditEvent.objects.filter(what="trail.export_viewed").exists()

    def test_cancel_is_a_press_of_a_button(self, auditor: Client, audrey: User) -> None:
        job = ready(audrey)
        url = reverse("admin:audit_export_cancel", args=[job.pk])
        assert auditor.get(url).status_code == 403
        assert auditor.post(url).status_code == 302
        assert (now_of(job).state, left()) == ("cancelled", [])

    def test_a_file_that_is_gone_is_told(self, auditor: Client, audrey: User) -> None:
        job = ready(audrey)
        files.remove(job)
        response = auditor.get(reverse("admin:audit_export_download", args=[job.pk]), follow=True)
        assert "The file is no longer there." in response.content.decode()

    def test_there_is_none_of_that_number(self, auditor: Client) -> None:
        assert auditor.get(reverse("admin:audit_export_download", args=[999])).status_code == 404

    def test_whoever_lost_the_permission_downloads_nothing(self, auditor: Client, audrey: User) -> None:
        job = ready(audrey)
        audrey.groups.clear()
        assert auditor.get(reverse("admin:audit_export_download", args=[job.pk])).status_code == 403
