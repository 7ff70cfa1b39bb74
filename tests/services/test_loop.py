"""The whole loop on real feeds: read, curated, approved by a second person, received by the group, on the trail."""

import json

import pytest
from django.conf import settings
from jsonschema import Draft202012Validator

from audit.models import AuditEvent
from compliance_bot.sandbox import Sandbox
from tests import feeds, people, world
from workflows.domain.states import MessageState, RunState, Verdict
from workflows.models import ApprovalRequest, Digest, Item, Message, Source
from workflows.services import approvals, delivery, runs

pytestmark = pytest.mark.django_db


def test_real_feeds_become_one_approved_digest_in_the_group(wecom: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds.require()
    alice, olivia = people.alice(), people.olivia()
    with feeds.served() as base:
        monkeypatch.setattr(settings, "EGRESS_ALLOW", [*settings.EGRESS_ALLOW, base.removeprefix("http://")])
        flow = world.workflow(
            alice, world.audience(world.robot(alice, wecom.url)), *(base + path for path in feeds.paths("real"))
        )
        run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
        runs.execute(run.pk)

    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED, run.outcome
    assert not Source.objects.exclude(failing_since=None).exists()
    assert Item.objects.filter(title__contains="美团").exists()

    digest = Digest.objects.get()
    schema = json.loads((settings.BASE_DIR / "docs" / "contracts" / "digest.v1.json").read_text(encoding="utf-8"))
    assert list(Draft202012Validator(schema).iter_errors(digest.content)) == []

    message = Message.objects.get()
    assert message.state == MessageState.PENDING
    assert wecom.wecom.messages() == []

    approvals.decide(approval_id=ApprovalRequest.objects.get().pk, verdict=Verdict.APPROVE, by=olivia, reason="")
    delivery.dispatch(message.pk)
    message.refresh_from_db()
    assert message.state == MessageState.SENT
    received = "".join(bubble.content for bubble in wecom.wecom.messages())
    assert all(entry["url"] in received for entry in digest.content["entries"] if entry["url"])
    assert all(len(bubble.content.encode()) <= 4096 for bubble in wecom.wecom.messages())

    told = set(AuditEvent.objects.values_list("what", flat=True))
    assert told >= {
        *("run.queued", "run.started", "source.read", "digest.composed", "message.submitted", "run.succeeded"),
        *("approval.requested", "approval.granted", "approval.executed", "message.released"),
        *("delivery.attempted", "delivery.sent", "message.finished"),
    }


def test_reading_the_same_feeds_again_brings_nothing_new(wecom: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    feeds.require()
    alice = people.alice()
    with feeds.served() as base:
        monkeypatch.setattr(settings, "EGRESS_ALLOW", [*settings.EGRESS_ALLOW, base.removeprefix("http://")])
        urls = [base + path for path in feeds.paths("real")]
        flow = world.workflow(alice, world.audience(world.robot(alice, wecom.url)), *urls)
        for _ in range(2):
            run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
            runs.execute(run.pk)
            Source.objects.update(state={})  # no conditional GET: everything is read anew
        read = AuditEvent.objects.filter(what="source.read").order_by("id")
    count = Source.objects.count()
    assert read.count() == 2 * count
    assert sum(event.facts["new"] for event in read[:count]) == Item.objects.count() > 100
    assert sum(event.facts["new"] for event in read[count:]) == 0


def test_a_broken_feed_leaves_a_reason_and_does_not_stop_the_others(
    wecom: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds.require()
    alice = people.alice()
    with feeds.served() as base:
        monkeypatch.setattr(settings, "EGRESS_ALLOW", [*settings.EGRESS_ALLOW, base.removeprefix("http://")])
        urls = [base + path for path in feeds.paths("illformed")]
        flow = world.workflow(alice, world.audience(world.robot(alice, wecom.url)), *urls)
        run = runs.run_now(workflow=flow, by=alice, digest_kind="update")
        runs.execute(run.pk)
    run.refresh_from_db()
    assert run.state == RunState.SUCCEEDED
    assert len(run.notes) == len(urls)
    for source in Source.objects.all():
        silent = not source.last_error and not source.notes and not source.items.exists()
        assert not silent, source.config
