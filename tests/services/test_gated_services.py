"""Secrets and large exports wait for a second person where the policy asks for it."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User

from audit.export import jobs
from audit.export.stream import Export
from audit.forms import SearchForm
from audit.models import AuditExport, ExportState
from audit.recorder import record
from audit.vocabulary import AccessEvent
from compliance_bot.guardrails import policy
from compliance_bot.guardrails import secrets as stores
from tests import people
from workflows import roles
from workflows.domain.errors import StaleContent
from workflows.domain.states import ApprovalState, Verdict
from workflows.models import ApprovalRequest, SecretRef
from workflows.services import approvals, exports, secrets

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    named = policy.parse(
        "security: {actions: {require_approval_for: [secret_reveal_or_replace, audit_export], "
        "rules: {audit_export: {threshold: 5}}}}"
    )
    monkeypatch.setattr(policy, "current", lambda: named)


def decide(verdict: Verdict = Verdict.APPROVE) -> ApprovalRequest:
    request = ApprovalRequest.objects.latest("pk")
    officer = people.person(f"officer{request.pk}", roles.OFFICER)
    approvals.decide(approval_id=request.pk, verdict=verdict, by=officer, reason="Seen")
    request.refresh_from_db()
    return request


class TestSecrets:
    @pytest.fixture
    def alice(self) -> User:
        return people.alice()

    @pytest.fixture
    def secret(self, alice: User) -> SecretRef:
        secret = SecretRef.objects.create(name="robot", owner=alice)
        assert secrets.store(secret=secret, value="first", by=alice) is None  # nothing is replaced yet
        secret.refresh_from_db()
        return secret

    @pytest.fixture(autouse=True)
    def _commits(self, django_capture_on_commit_callbacks: object) -> Iterator[None]:
        with django_capture_on_commit_callbacks(execute=True):  # type: ignore[operator]
            yield

    def value(self) -> str:
        return stores.get("local").read("robot")

    def test_a_new_value_waits_beside_the_old_one(self, secret: SecretRef, alice: User) -> None:
        request = secrets.store(secret=secret, value="second", by=alice, reason="Rotation")
        assert request is not None
        assert self.value() == "first"
        assert "second" not in str(request.preview)
        assert decide().state == ApprovalState.EXECUTED
        assert self.value() == "second"

    def test_a_denied_one_changes_nothing(self, secret: SecretRef, alice: User) -> None:
        secrets.store(secret=secret, value="second", by=alice)
        decide(Verdict.DENY)
        assert self.value() == "first"

    def test_what_was_swapped_in_the_store_is_not_approved(self, secret: SecretRef, alice: User) -> None:
        request = secrets.store(secret=secret, value="second", by=alice)
        assert request is not None
        stores.get("local").write(request.payload["pending"], "a stranger's")
        with pytest.raises(StaleContent):
            decide()
        assert self.value() == "first"


class TestExports:
    @pytest.fixture
    def auditor(self) -> User:
        return people.person("audrey", roles.AUDITOR)

    def ask(self, owner: User, query: str = "") -> AuditExport:
        form = SearchForm({"q": query})
        assert form.is_valid()
        return jobs.ask(Export(search=form.search(), form="csv", columns=["who"], reason="Yearly audit"), owner=owner)

    def test_a_large_one_waits_and_is_prepared_on_approval(self, auditor: User) -> None:
        for _ in range(6):
            record(AccessEvent.DENIED)
        job = self.ask(auditor)
        assert job.state == ExportState.WAITING
        jobs.work(job.pk)
        job.refresh_from_db()
        assert job.state == ExportState.WAITING
        assert decide().action == exports.ACTION
        job.refresh_from_db()
        assert job.state == ExportState.QUEUED

    def test_a_denied_one_says_why(self, auditor: User) -> None:
        for _ in range(6):
            record(AccessEvent.DENIED)
        job = self.ask(auditor)
        decide(Verdict.DENY)
        job.refresh_from_db()
        assert (job.state, job.problem) == (ExportState.FAILED, "Not approved: Seen")

    def test_a_cancelled_one_cannot_be_approved(self, auditor: User) -> None:
        for _ in range(6):
            record(AccessEvent.DENIED)
        assert jobs.cancel(self.ask(auditor))
        with pytest.raises(StaleContent, match="cancelled"):
            decide()

    def test_a_small_one_goes_on_at_once(self, auditor: User) -> None:
        assert self.ask(auditor, "nothing says this").state == ExportState.QUEUED
