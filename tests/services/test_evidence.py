"""The evidence of a request: complete, of bounded size, and a bundle that proves itself to a stranger."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import context, keys, proof, sealing, story
from audit.models import AuditEvent
from audit.recorder import record
from audit.vocabulary import AccessEvent
from compliance_bot.sandbox.server import Sandbox
from compliance_bot.sandbox.wecom import Fault
from tests import people, world
from workflows import roles
from workflows.domain.errors import NotPermitted
from workflows.domain.states import ApprovalState, DeliveryState, Verdict
from workflows.models import ApprovalRequest, Delivery, DeliveryAttempt, Message, Snapshot
from workflows.services import approvals, delivery, evidence, evidence_bundle, messages

pytestmark = pytest.mark.django_db

# Each paragraph fills a part by itself.
BODY = "\n\n".join(f"{number} <b>群发</b> " + "x" * 3900 for number in range(3))


@pytest.fixture
def olivia() -> User:
    return people.olivia()


@pytest.fixture
def sent(wecom: Sandbox, olivia: User) -> ApprovalRequest:
    """A mass send in three parts, asked for, looked at, approved and sent; what became of the first is unknown."""
    alice = people.alice()
    wecom.wecom.plan_faults([Fault("reset_after")])
    draft = world.message(alice, world.audience(world.robot(alice, wecom.url)), body=BODY)
    with context.system_acting():
        messages.submit(message_id=draft.pk, by=alice)
    request = ApprovalRequest.objects.get()
    with context.caused_by(context.Cause(context.current().actor_of, ip="192.0.2.7")):
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=olivia, reason="Reads well")
    delivery.dispatch(draft.pk)
    request.refresh_from_db()
    return request


def deny(request: ApprovalRequest, by: User) -> ApprovalRequest:
    approvals.decide(approval_id=request.pk, verdict=Verdict.DENY, by=by, reason="Wrong quarter")
    request.refresh_from_db()
    return request


def waiting(**written: Any) -> ApprovalRequest:
    """A mass send that waits for a second person."""
    alice = people.alice()
    draft = world.message(alice, world.audience(world.robot(alice)), **written)
    messages.submit(message_id=draft.pk, by=alice)
    return ApprovalRequest.objects.get()


def rollback_of(request: ApprovalRequest) -> ApprovalRequest:
    fields = ("requested_by", "authored_by", "reason", "requested_at", "expires_at", "request_id")
    return ApprovalRequest.objects.create(
        action="rollback",
        subject_type="workflows.snapshot",
        preview={},
        previous=request,
        **{name: getattr(request, name) for name in fields},
    )


def file_of(request: ApprovalRequest, by: User) -> bytes:
    return b"".join(evidence_bundle.stream(approval=request, by=by))


def bundle(request: ApprovalRequest, by: User) -> dict[str, Any]:
    return dict(json.loads(file_of(request, by)))


def seal_all() -> None:
    sealing.sweep(timezone.now())


class TestContent:
    def test_who_asked_what_was_shown_and_who_decided(self, sent: ApprovalRequest) -> None:
        found = evidence.of(sent)
        assert (found.asked.requested_by, found.asked.reason) == ("alice", "Yearly duty")
        assert (found.asked.state, found.asked.quorum, found.asked.size) == (ApprovalState.EXECUTING, 1, 180)
        assert found.shown == evidence.Shown(preview=sent.preview, content_digest=sent.content_digest, as_asked=True)
        (decision,) = found.decisions
        assert (decision.who, decision.verdict, decision.reason) == ("olivia", "approve", "Reads well")
        assert (decision.address, decision.content_digest) == ("192.0.2.7", sent.content_digest)

    def test_every_text_that_left_with_its_digest(self, sent: ApprovalRequest, wecom: Sandbox) -> None:
        found = evidence.of(sent).sent
        assert found is not None
        assert [part.as_shown for part in found.parts] == [True, True, True]
        arrived = [message.content for message in wecom.wecom.messages()]
        assert len(arrived) == 3
        assert [part.sha256 for part in found.parts] == [sha256(text.encode()).hexdigest() for text in arrived]

    def test_a_text_that_was_swapped_after_the_approval_is_named(self, sent: ApprovalRequest) -> None:
        Message.objects.get().parts.filter(number=2).update(text="Something else")
        found = evidence.of(sent).sent
        assert found is not None
        assert [part.as_shown for part in found.parts] == [True, False, True]

    def test_a_preview_that_was_swapped_is_named(self, sent: ApprovalRequest) -> None:
        sent.preview = {**sent.preview, "people": 1}  # as whoever owns the database could
        assert not evidence.of(sent).shown.as_asked

    def test_each_delivery_with_its_attempts_and_the_unknown_one_as_unknown(self, sent: ApprovalRequest) -> None:
        ((first, second, third),) = evidence.deliveries(evidence.of(sent).sent)
        assert [row.state for row in (first, second, third)] == ["unknown", "sent", "sent"]
        assert [row.part for row in (first, second, third)] == [1, 2, 3]
        (attempt,) = first.attempts
        assert (attempt.outcome, attempt.finished_at is not None) == ("unknown", True)
        assert (first.recipient, first.channel) == ("Everyone group", "Robot")

    def test_what_was_denied_sent_nothing(self, olivia: User) -> None:
        request = deny(waiting(), olivia)
        found = evidence.of(request)
        assert (found.sent, found.decisions[0].reason) == (None, "Wrong quarter")
        assert list(evidence.deliveries(found.sent)) == []

    def test_what_left_belongs_to_the_request_that_let_it_go(self, olivia: User) -> None:
        """The first request for a message came to nothing; its evidence must not claim what the second one sent."""
        first = waiting()
        approvals.withdraw(approval_id=first.pk, by=first.requested_by, reason="A slip")
        messages.submit(message_id=int(first.subject_id), by=first.requested_by)
        second = ApprovalRequest.objects.exclude(pk=first.pk).get()
        approvals.decide(approval_id=second.pk, verdict=Verdict.APPROVE, by=olivia, reason="")
        before, after = (evidence.of(ApprovalRequest.objects.get(pk=row.pk)) for row in (first, second))
        assert before.sent is None
        assert after.sent is not None
        assert (before.asked.following, after.asked.previous) == ([second.pk], first.pk)

    def test_a_broken_glass_and_who_looked_at_it_afterwards(self, olivia: User) -> None:
        request = waiting()
        why = "The regulator's deadline is in ten minutes"
        approvals.break_glass(approval_id=request.pk, by=people.sam(), reason=why)
        approvals.review(approval_id=request.pk, by=olivia, reason="It was right")
        glass = evidence.of(ApprovalRequest.objects.get()).break_glass
        assert glass is not None
        assert (glass.who, glass.reason, glass.reviewed_by, glass.review) == ("sam", why, "olivia", "It was right")

    def test_a_snapshot_names_its_objects_and_its_rollback_and_not_what_they_held(self) -> None:
        request = waiting()
        mallory = {"model": "auth.user", "key": 7, "label": "mallory", "before": {"password": "hashed-secret"}}
        created = [["auth.group", 3]]
        Snapshot.objects.create(request=request, taken_at=timezone.now(), before=[mallory], created=created)
        back = rollback_of(request)
        kept = evidence.of(request).snapshot
        assert kept is not None
        assert kept.objects == [evidence.Named(model="auth.user", key=7, label="mallory")]
        assert kept.created == [evidence.Named(model="auth.group", key=3, label="")]
        assert kept.rolled_back_by == [back.pk]
        assert b"hashed-secret" not in file_of(request, people.person("audrey", roles.AUDITOR))


class TestPage:
    def test_an_officer_sees_all_of_it_and_that_is_on_the_trail(self, sent: ApprovalRequest, olivia: User) -> None:
        seal_all()
        page = evidence.view(approval=sent, by=olivia)
        assert page.hidden == []
        assert page.deliveries is not None
        assert dict(page.deliveries.counts) == {DeliveryState.SENT: 2, DeliveryState.UNKNOWN: 1}
        assert page.events is not None
        told = [event.what for event, _place in page.events.first]
        for what in ("approval.requested", "approval.granted", "delivery.sent", "delivery.unknown"):
            assert what in told
        viewed = AuditEvent.objects.get(what="evidence.viewed")
        assert (viewed.who_label, viewed.target_id) == ("olivia", str(sent.pk))

    def test_each_event_has_its_place_under_a_seal_or_waits(self, sent: ApprovalRequest, olivia: User) -> None:
        seal_all()
        page = evidence.view(approval=sent, by=olivia)
        assert page.events is not None
        numbers = {seal.n for seal in page.events.seals}
        for event, place in page.events.first:
            assert (place is None) == (event.what == "evidence.viewed")
            assert place is None or place.seal_n in numbers

    def test_without_the_trail_its_events_are_hidden_and_that_is_said(self, sent: ApprovalRequest) -> None:
        page = evidence.view(approval=sent, by=sent.requested_by)
        assert page.events is None
        assert page.hidden == ["The audit events and their seals: your role does not include the audit trail."]
        assert page.deliveries is not None

    def test_without_deliveries_what_was_sent_is_hidden_and_that_is_said(self, sent: ApprovalRequest) -> None:
        reader = holder("workflows.view_approvalrequest", "audit.view_auditevent")
        page = evidence.view(approval=sent, by=reader)
        assert (page.evidence.sent, page.deliveries) == (None, None)
        assert page.events is not None
        assert len(page.hidden) == 1

    def test_who_may_not_see_the_request_sees_nothing(self, sent: ApprovalRequest) -> None:
        with pytest.raises(NotPermitted):
            evidence.view(approval=sent, by=people.nora())
        assert not AuditEvent.objects.filter(what="evidence.viewed").exists()

    def test_more_deliveries_cost_no_more_queries(
        self, sent: ApprovalRequest, olivia: User, count_queries: Callable[[Callable[[], object]], int]
    ) -> None:
        for look in (lambda: evidence.view(approval=sent, by=olivia), lambda: file_of(sent, olivia)):
            look()  # keys are made, permissions read
            ten = after(10, sent, lambda look=look: count_queries(look))  # type: ignore[misc]
            five_hundred = after(500, sent, lambda look=look: count_queries(look))  # type: ignore[misc]
            assert five_hundred == ten

    def test_the_page_stops_at_two_hundred_deliveries_and_the_bundle_goes_on(
        self, sent: ApprovalRequest, olivia: User
    ) -> None:
        fill(1500)
        page = evidence.view(approval=sent, by=olivia)
        assert page.deliveries is not None
        assert (len(page.deliveries.first), page.deliveries.total) == (evidence.MOST, 1500)
        found = bundle(sent, olivia)["evidence"]["deliveries"]
        assert len({row["id"] for row in found}) == len(found) == 1500


class TestBundle:
    def test_it_holds_what_the_page_shows_and_every_event(self, sent: ApprovalRequest, olivia: User) -> None:
        seal_all()
        before = [str(event.event_id) for event in story.tell(sent.request_id).events]
        found = bundle(sent, olivia)
        assert found["evidence"]["shown"]["preview"] == sent.preview
        assert [row["state"] for row in found["evidence"]["deliveries"]] == ["unknown", "sent", "sent"]
        held = [json.loads(event["canon"])["event_id"] for group in groups(found) for event in group["events"]]
        assert set(before) < set(held)
        assert len(held) == len(set(held)) == found["manifest"]["events"] == len(before) + 1

    def test_it_proves_itself_with_our_verifier_alone(
        self, sent: ApprovalRequest, olivia: User, tmp_path: Path
    ) -> None:
        seal_all()
        path = tmp_path / "evidence.json"
        path.write_bytes(file_of(sent, olivia))
        said = run_verifier(path, "--key", keys.key_id(keys.signing_key().public_key()))
        assert said.stdout.startswith(f"Proved: the evidence of request {sent.pk}, 3 deliveries, ")
        assert "not sealed yet" in said.stdout  # that this very file was asked for
        assert "the keys that you named" in said.stdout
        assert said.returncode == 0

    def test_each_sealed_group_proves_by_itself(self, sent: ApprovalRequest, olivia: User) -> None:
        seal_all()
        public = {key_id: key.public_bytes_raw() for key_id, key in keys.public_keys().items()}
        sealed = [group for group in groups(bundle(sent, olivia)) if group["seal"] is not None]
        cells = [cell for group in sealed for cell in proof.check_group(group, public)]
        assert {"approval.granted", "delivery.unknown"} <= {cell["what"] for cell in cells}

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            (("evidence", "decisions", 0, "who"), "mallory"),
            (("evidence", "deliveries", 0, "state"), "sent"),
            (("evidence", "shown", "preview", "people"), 1),
            (("evidence", "events", 0, "events", 0, "canon"), "{}"),
            (("manifest", "deliveries"), 2),
            (("manifest", "sha256"), "0" * 64),
        ],
    )
    def test_whatever_is_changed_in_it_is_noticed(
        self, sent: ApprovalRequest, olivia: User, place: tuple[Any, ...], value: object
    ) -> None:
        seal_all()
        found = bundle(sent, olivia)
        proof.check_evidence(found)
        into: Any = found
        for step in place[:-1]:
            into = into[step]
        assert into[place[-1]] != value
        into[place[-1]] = value
        with pytest.raises(proof.Broken):
            proof.check_evidence(found)

    def test_an_event_that_was_forged_before_it_was_taken_does_not_prove(
        self, sent: ApprovalRequest, olivia: User
    ) -> None:
        """Whoever can sign bundles cannot make a sealed event: the digest of the bundle is right, the seal is not."""
        seal_all()
        found = bundle(sent, olivia)
        event = groups(found)[0]["events"][0]
        event["canon"] = event["canon"].replace("alice", "mallory")
        resign(found)
        with pytest.raises(proof.Broken, match="an event was changed"):
            proof.check_evidence(found)

    def test_a_bundle_signed_by_a_stranger_is_told_from_ours(
        self, sent: ApprovalRequest, olivia: User, tmp_path: Path
    ) -> None:
        found = bundle(sent, olivia)
        ours = found["manifest"]["key"]
        stranger = Ed25519PrivateKey.generate()
        found["manifest"] |= {"public_keys": [stranger.public_key().public_bytes_raw().hex()]}
        found["manifest"]["key"] = keys.key_id(stranger.public_key())
        resign(found, stranger)
        path = tmp_path / "evidence.json"
        path.write_text(json.dumps(found), encoding="utf-8")
        said = run_verifier(path, "--key", ours)
        assert (said.returncode, "which you did not name" in said.stdout) == (1, True)

    def test_a_cut_file_is_no_evidence(self, sent: ApprovalRequest, olivia: User, tmp_path: Path) -> None:
        path = tmp_path / "evidence.json"
        path.write_bytes(file_of(sent, olivia)[:-200])
        said = run_verifier(path)
        assert (said.returncode, said.stdout.startswith("NOT PROVED")) == (1, True)

    def test_it_is_canonical_so_that_its_digest_can_be_made_again(self, sent: ApprovalRequest, olivia: User) -> None:
        content = file_of(sent, olivia).decode()
        found = json.loads(content)
        assert content.startswith('{"evidence":' + proof.canonical(found["evidence"]) + ',\n"manifest":')

    def test_its_beginning_and_its_digest_are_on_the_trail(self, sent: ApprovalRequest, olivia: User) -> None:
        manifest = bundle(sent, olivia)["manifest"]
        assert AuditEvent.objects.get(what="evidence.export_started").who_label == "olivia"
        exported = AuditEvent.objects.get(what="evidence.exported")
        assert (exported.who_label, exported.outcome) == ("olivia", "success")
        assert exported.facts == {
            "sha256": manifest["sha256"],
            "complete": True,
            "deliveries": 3,
            "events": manifest["events"],
            "unsealed": manifest["unsealed"],
        }

    def test_a_download_that_breaks_off_is_recorded_as_incomplete(self, sent: ApprovalRequest, olivia: User) -> None:
        pieces = evidence_bundle.stream(approval=sent, by=olivia)
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]
        exported = AuditEvent.objects.get(what="evidence.exported")
        assert (exported.outcome, exported.facts["complete"]) == ("failure", False)

    @pytest.mark.parametrize("missing", evidence._EXPORT)
    def test_it_takes_the_right_to_everything_in_it(self, sent: ApprovalRequest, missing: str) -> None:
        reader = holder(*(name for name in evidence._EXPORT if name != missing))
        with pytest.raises(NotPermitted):
            evidence_bundle.stream(approval=sent, by=reader)
        assert evidence_bundle.stream(approval=sent, by=holder(*evidence._EXPORT, name="rita"))

    def test_no_transaction_stays_open_while_somebody_downloads(self, committed: None) -> None:
        request = waiting()
        for _piece in evidence_bundle.stream(approval=request, by=people.olivia()):
            assert not connection.in_atomic_block

    def test_a_story_longer_than_a_page_is_whole_in_it(self, olivia: User, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(story, "_PIECE", 3)
        monkeypatch.setattr(story, "MOST", 3)
        request = waiting()
        with context.system_acting(parent_event_id=approvals.asked_by_event(request.pk)):
            for number in range(10):
                last = record(AccessEvent.DENIED, why=str(number))
        with context.system_acting(parent_event_id=last.event_id):
            record(AccessEvent.DENIED, why="far away")
        found = [json.loads(event["canon"]) for group in groups(bundle(request, olivia)) for event in group["events"]]
        whys = [event["why"] for event in found if event["what"] == AccessEvent.DENIED]
        assert whys == [*map(str, range(10)), "far away"]


@pytest.fixture
def count_queries() -> Callable[[Callable[[], object]], int]:
    def counted(call: Callable[[], object]) -> int:
        with CaptureQueriesContext(connection) as queries:
            call()
        return len(queries)

    return counted


def after(count: int, request: ApprovalRequest, look: Callable[[], int]) -> int:
    """What ``look`` gives with so many deliveries, and with the trail as long as before."""
    fill(count)
    return look()


def fill(count: int) -> None:
    """So many deliveries in all, with an attempt each, as rows alone."""
    model = Delivery.objects.select_related("part").first()
    assert model is not None
    have = Delivery.objects.count()
    Delivery.objects.bulk_create(
        Delivery(
            message=model.message,
            channel=model.channel,
            part=model.part,
            address=f"person-{number}",
            recipient=f"Person {number}",
            state=DeliveryState.SENT,
        )
        for number in range(have, count)
    )
    now = timezone.now()
    DeliveryAttempt.objects.bulk_create(
        DeliveryAttempt(delivery=row, number=1, started_at=now, finished_at=now + timedelta(seconds=1), outcome="sent")
        for row in Delivery.objects.filter(tries=None)
    )


def holder(*permissions: str, name: str = "reader") -> User:
    """Somebody with exactly these rights."""
    user = people.person(name)
    user.user_permissions.set([roles._permission(label) for label in permissions])
    return User.objects.get(pk=user.pk)


def groups(found: dict[str, Any]) -> list[dict[str, Any]]:
    return list(found["evidence"]["events"])


def resign(found: dict[str, Any], key: Ed25519PrivateKey | None = None) -> None:
    """As whoever holds a key could do."""
    manifest = found["manifest"]
    manifest["sha256"] = sha256(proof.canonical(found["evidence"]).encode()).hexdigest()
    said = proof.canonical({name: value for name, value in manifest.items() if name != "signature"})
    manifest["signature"] = (key or keys.signing_key()).sign(said.encode()).hex()


def run_verifier(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The verifier as an auditor runs it: one file, nothing of ours installed."""
    command = [sys.executable, "-I", str(Path(proof.__file__)), str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)
