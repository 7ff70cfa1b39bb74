"""The life of requests against a plain model of it: whatever people do, in any order, at any time.

Each rule does one thing to the product, works out in plain words what has to come of it, and compares. The invariants
look at the tables alone: they would hold against the model too.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, transaction
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from audit.models import AuditEvent
from compliance_bot.guardrails import policy
from tests import people, world
from workflows import roles
from workflows.domain.errors import WorkflowError
from workflows.domain.states import (
    APPROVAL_CAME_TO_NOTHING,
    APPROVAL_CARRIED_OUT,
    APPROVAL_OPEN,
    APPROVAL_TRANSITIONS,
    ApprovalState,
    Verdict,
)
from workflows.models import ApprovalDecision, ApprovalRequest, AudienceMember, Delivery, Message, Snapshot
from workflows.services import approvals, changes, messages, snapshots

pytestmark = pytest.mark.django_db

# In business hours, and later than whatever an installation has recorded of itself.
MONDAY_TEN = datetime(2046, 3, 5, 2, tzinfo=UTC)
LEGAL, BOARD = "Legal", "Board"
MEMBERS = {LEGAL: {"olivia", "oscar"}, BOARD: {"oona"}}
WRITERS = {"alice", "mia", "sam"}
DECIDERS = {"olivia", "oscar", "oona", "sam"}
GLASS_BREAKERS = {"adam", "sam"}
# Whose rights are changed; one of them decides herself.
ACCOUNTS = ("terry", "olivia")
WHY = "The regulator's deadline is in an hour"

PENDING, APPROVED = ApprovalState.PENDING, ApprovalState.APPROVED

anybody = st.sampled_from(sorted(WRITERS | DECIDERS | GLASS_BREAKERS | {"nora"}))
# Counted from the newest.
some = st.integers(0, 3)
verdicts = st.sampled_from(Verdict)
reasons = st.sampled_from(["Seen", " "])
# An instant itself, just before it, just after it.
offsets = st.sampled_from([timedelta(0), timedelta(milliseconds=-1), timedelta(milliseconds=1)])
policies = st.fixed_dictionaries(
    {
        "quorum": st.integers(1, 3),
        "group": st.sampled_from(["", LEGAL]),
        "escalate_to": st.sampled_from(["", BOARD]),
        "expires_after_hours": st.sampled_from([1, 24]),
        "delay_minutes": st.sampled_from([0, 0, 30]),
        "business_hours_only": st.booleans(),
        "second_approval_above": st.sampled_from([None, 100]),
        "reason_to_approve": st.booleans(),
        "remind_before_minutes": st.sampled_from([30, 120]),
    }
)


@dataclass
class Account:
    """What of an account is changed."""

    is_staff: bool
    first_name: str


@dataclass
class Letter:
    """A message: its state, and the size of the group that it goes to."""

    message: Message
    state: str
    request: "Asked | None" = None
    copy_of: "Letter | None" = None


@dataclass
class Asked:
    """One request as it has to be."""

    pk: int
    subject: Any
    by: str
    author: str
    before: Any
    after: Any
    quorum: int
    rule: policy.Rule
    expires_at: datetime
    previous: "Asked | None"
    barred: frozenset[str] = frozenset()
    state: ApprovalState = PENDING
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    is_reminded: bool = False
    execute_at: datetime | None = None
    glass_by: str = ""
    is_reviewed: bool = False
    told: Counter[str] = field(default_factory=lambda: Counter(["approval.requested"]))

    @property
    def is_send(self) -> bool:
        return isinstance(self.subject, Letter)

    def deciding(self) -> set[str]:
        """Who may decide now, whatever the state."""
        inside = MEMBERS[self.rule.group] if self.rule.group else DECIDERS
        if self.rule.group and self.rule.escalate_to and self.is_reminded:
            inside = inside | MEMBERS[self.rule.escalate_to]
        return (DECIDERS & inside) - {self.by, self.author} - self.barred


class Approvals(RuleBasedStateMachine):
    patch: pytest.MonkeyPatch
    clock: time_machine.Traveller

    # Before and after each run

    @initialize(drawn=policies)
    def begin(self, drawn: dict[str, Any]) -> None:
        self.undo = transaction.atomic()
        self.undo.__enter__()
        self.clock.move_to(MONDAY_TEN)
        if drawn["second_approval_above"] is None:
            del drawn["second_approval_above"]
        text = str({name: drawn[name] for name in drawn})
        rules = ", ".join(f"{action}: {text}" for action in ("mass_send", "permission_change", "rollback"))
        parsed = policy.parse(f"security: {{actions: {{rules: {{{rules}}}}}}}")
        self.patch.setattr(policy, "current", lambda: parsed)
        self.rules = parsed.actions  # type: ignore[assignment]
        self.rule = parsed.actions.rule("mass_send")
        self.asked: list[Asked] = []
        self.last_of: dict[str, Asked] = {}
        self.accounts = {name: Account(is_staff=True, first_name="") for name in ACCOUNTS}
        self.letters = [Letter(message, "draft") for message in Message.objects.select_related("author").order_by("pk")]
        self.sizes = dict(AudienceMember.objects.values_list("audience_id", "size"))
        self.seen: dict[int, str] = {}

    def teardown(self) -> None:
        if hasattr(self, "undo"):
            transaction.set_rollback(True)
            self.undo.__exit__(None, None, None)

    # What the rules share

    def one(self, pick: int) -> Asked:
        return self.asked[-1 - pick % len(self.asked)]

    def pending(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.state == PENDING]

    def try_(self, call: Callable[[], object]) -> str:
        """What came of it: the code of the refusal, or nothing."""
        try:
            call()
        except WorkflowError as refusal:
            return refusal.code
        return ""

    def content(self, subject: Any) -> Any:
        """What a decision about it is bound to, as it is now."""
        if isinstance(subject, Letter):
            return self.sizes[subject.message.audience_id]
        account = self.accounts[subject]
        return (account.is_staff, account.first_name)

    def end(self, asked: Asked, state: ApprovalState, event: str) -> None:
        asked.state = state
        asked.told[event] += 1
        if asked.is_send and state != ApprovalState.DENIED:
            asked.subject.state = "draft"

    def is_stale(self, asked: Asked) -> bool:
        if self.content(asked.subject) == asked.before:
            return False
        self.end(asked, ApprovalState.VOID, "approval.voided")
        return True

    def carry_out(self, asked: Asked) -> None:
        asked.told["approval.executing"] += 1
        if asked.is_send:
            asked.state, asked.subject.state = ApprovalState.EXECUTING, "released"
            return
        asked.state = ApprovalState.EXECUTED
        asked.told["approval.executed"] += 1
        self.accounts[asked.subject] = Account(*asked.after)

    def expect_new(self, asked: Asked, made: ApprovalRequest) -> None:
        asked.pk = made.pk
        assert made.previous_id == (asked.previous.pk if asked.previous else None)
        assert (made.quorum, made.expires_at) == (asked.quorum, asked.expires_at)
        self.asked.append(asked)

    def ask(self, subject: Any, *, by: str, author: str, size: int, after: Any, previous: Asked | None) -> Asked:
        """The request that has to come of it; the one before it about the same subject gives way."""
        key = str(subject)
        last = self.last_of.get(key) if isinstance(subject, str) else subject.request
        if last is not None and last.state == PENDING:
            self.end(last, ApprovalState.SUPERSEDED, "approval.superseded")
        is_large = self.rule.second_approval_above is not None and size > self.rule.second_approval_above
        asked = Asked(
            pk=0,
            subject=subject,
            by=by,
            author=author,
            before=self.content(subject),
            after=after,
            quorum=self.rule.quorum + int(is_large),
            rule=self.rule,
            expires_at=timezone.now() + timedelta(hours=self.rule.expires_after_hours),
            previous=previous or (last if last is not None and last.state in APPROVAL_CAME_TO_NOTHING else None),
            barred=frozenset({subject}) if isinstance(subject, str) else frozenset(),
        )
        if isinstance(subject, str):
            self.last_of[key] = asked
        else:
            subject.request, subject.state = asked, "pending"
        return asked

    def waits_for_its_hour(self, name: str) -> bool:
        last = self.last_of.get(name)
        return last is not None and last.state == APPROVED

    # Asking

    @rule(pick=some, by=anybody)
    def submit_a_message(self, pick: int, by: str) -> None:
        letter = self.letters[pick % len(self.letters)]
        came = self.try_(lambda: messages.submit(message_id=letter.message.pk, by=user(by)))
        if by not in WRITERS:
            assert came == "not_permitted"
        elif letter.state != "draft":
            assert came == "wrong_state"
        else:
            assert came == ""
            size = self.content(letter)
            previous = letter.copy_of.request if letter.copy_of else None
            author = letter.message.author.username
            asked = self.ask(letter, by=by, author=author, size=size, after=None, previous=previous)
            self.expect_new(asked, ApprovalRequest.objects.latest("pk"))

    @rule(pick=some, by=anybody)
    def write_a_message_anew(self, pick: int, by: str) -> None:
        letter = self.letters[pick % len(self.letters)]
        made: list[Message] = []
        came = self.try_(lambda: made.append(messages.write_anew(message_id=letter.message.pk, by=user(by))))
        if by not in WRITERS:
            assert came == "not_permitted"
        elif letter.state != "cancelled":
            assert came == "wrong_state"
        else:
            assert came == ""
            self.letters.append(Letter(made[0], "draft", copy_of=letter))

    @rule(name=st.sampled_from(ACCOUNTS), by=st.sampled_from(["sam", "oona"]))
    def change_somebodys_rights(self, name: str, by: str) -> None:
        """As an admin page does it: the change is made under watch, taken back, and asked for."""
        with changes.watched(user(by)) as found:
            account = user(name)
            account.is_staff = not account.is_staff
            account.save()
        needed = found.needs
        assert needed is not None
        came = self.try_(lambda: changes.ask(needed, by=user(by), reason=WHY))
        if self.waits_for_its_hour(name):
            assert came == "wrong_state"
            return
        assert came == ""
        is_staff, first_name = self.content(name)
        asked = self.ask(name, by=by, author=by, size=1, after=(not is_staff, first_name), previous=None)
        self.expect_new(asked, ApprovalRequest.objects.latest("pk"))

    @precondition(lambda self: self.asked)
    @rule(pick=some, by=anybody)
    def ask_anew(self, pick: int, by: str) -> None:
        old = self.one(pick)
        came = self.try_(lambda: changes.again(approval_id=old.pk, by=user(by), reason=WHY))
        if old.is_send or old.state not in APPROVAL_CAME_TO_NOTHING or by != old.by:
            assert came == "invalid"
        elif self.waits_for_its_hour(old.subject):
            assert came == "wrong_state"
        elif self.content(old.subject) != old.before:
            assert came == "stale_content"
        else:
            assert came == ""
            asked = self.ask(old.subject, by=by, author=by, size=1, after=old.after, previous=old)
            self.expect_new(asked, ApprovalRequest.objects.latest("pk"))

    @precondition(lambda self: any(asked.state == ApprovalState.EXECUTED for asked in self.asked if not asked.is_send))
    @rule(pick=some, by=anybody)
    def roll_back(self, pick: int, by: str) -> None:
        done = [asked for asked in self.asked if asked.state == ApprovalState.EXECUTED and not asked.is_send]
        old = done[-1 - pick % len(done)]
        snapshot = Snapshot.objects.get(request=old.pk)
        came = self.try_(lambda: snapshots.roll_back(snapshot_id=snapshot.pk, by=user(by), reason=WHY))
        if by not in {old.by} | DECIDERS | GLASS_BREAKERS:
            assert came == "not_permitted"
        elif self.content(old.subject) == old.before or self.waits_for_its_hour(old.subject):
            assert came == "wrong_state"
        else:
            assert came == ""
            asked = self.ask(old.subject, by=by, author=by, size=1, after=old.before, previous=old)
            self.expect_new(asked, ApprovalRequest.objects.latest("pk"))

    # Deciding

    @precondition(lambda self: self.asked)
    @rule(pick=some, by=anybody, verdict=verdicts, reason=reasons)
    def decide(self, pick: int, by: str, verdict: Verdict, reason: str) -> None:
        self.decide_on(self.one(pick), by, verdict, reason)

    @precondition(lambda self: self.pending())
    @rule(pick=some)
    def everybody_agrees(self, pick: int) -> None:
        pending = self.pending()
        for name in sorted(DECIDERS):
            self.decide_on(pending[-1 - pick % len(pending)], name, Verdict.APPROVE, "Seen")

    @precondition(lambda self: self.pending())
    @rule(pick=some, off=offsets)
    def everybody_agrees_at_the_last_moment(self, pick: int, off: timedelta) -> None:
        pending = self.pending()
        self.clock.move_to(max(timezone.now(), pending[-1 - pick % len(pending)].expires_at + off))
        self.everybody_agrees(pick)

    def decide_on(self, asked: Asked, by: str, verdict: Verdict, reason: str) -> None:
        came = self.try_(lambda: approvals.decide(approval_id=asked.pk, verdict=verdict, by=user(by), reason=reason))
        assert came == self.outcome_of(asked, by, verdict, reason.strip())
        asked.told["approval.refused"] += bool(came)

    def outcome_of(self, asked: Asked, by: str, verdict: Verdict, reason: str) -> str:
        if refused := self.why_not(asked, by):
            return refused
        if not reason and (verdict == Verdict.DENY or asked.rule.reason_to_approve):
            return "reason_required"
        if verdict == Verdict.APPROVE and self.is_stale(asked):
            return "stale_content"
        asked.verdicts[by] = verdict
        if verdict == Verdict.DENY:
            self.end(asked, ApprovalState.DENIED, "approval.denied")
            if asked.is_send:
                asked.subject.state = "cancelled"
            return ""
        asked.told["approval.granted"] += 1
        if len(asked.verdicts) == asked.quorum:
            self.approve(asked)
        return ""

    def why_not(self, asked: Asked, by: str) -> str:
        if by in DECIDERS and by in {asked.by, asked.author, *asked.barred}:
            return "four_eyes"
        if by not in asked.deciding():
            return "not_permitted"
        if by in asked.verdicts:
            return "already_decided"
        return self.why_not_pending(asked)

    def why_not_pending(self, asked: Asked) -> str:
        if asked.state != PENDING:
            return "already_decided"
        if asked.expires_at <= timezone.now():
            self.end(asked, ApprovalState.EXPIRED, "approval.expired")
            return "expired"
        return ""

    def approve(self, asked: Asked) -> None:
        asked.state = APPROVED
        asked.execute_at = timezone.now() + timedelta(minutes=asked.rule.delay_minutes)
        if asked.rule.business_hours_only:
            asked.execute_at = self.rules.business_hours.next(asked.execute_at)  # type: ignore[attr-defined]
        if asked.execute_at <= timezone.now():
            self.carry_out(asked)

    @precondition(lambda self: self.asked)
    @rule(pick=some, by=st.sampled_from(["sam", "adam", "olivia"]), reason=st.sampled_from([WHY, WHY, "Urgent!"]))
    def break_the_glass(self, pick: int, by: str, reason: str) -> None:
        asked = self.one(pick)
        came = self.try_(lambda: approvals.break_glass(approval_id=asked.pk, by=user(by), reason=reason))
        if by not in GLASS_BREAKERS:
            expected = "not_permitted"
        elif reason != WHY:
            expected = "reason_required"
        else:
            expected = self.why_not_pending(asked) or ("stale_content" if self.is_stale(asked) else "")
        assert came == expected
        asked.told["approval.refused"] += bool(came)
        if not came:
            asked.glass_by = by
            asked.told["glass.broken"] += 1
            self.carry_out(asked)

    @precondition(lambda self: any(asked.glass_by for asked in self.asked))
    @rule(pick=some, names=st.permutations([*sorted(DECIDERS), "adam"]), reason=reasons)
    def everybody_reviews(self, pick: int, names: list[str], reason: str) -> None:
        alone = [asked for asked in self.asked if asked.glass_by]
        for name in names:
            self.review(alone[-1 - pick % len(alone)], name, reason)

    def review(self, asked: Asked, by: str, reason: str) -> None:
        came = self.try_(lambda: approvals.review(approval_id=asked.pk, by=user(by), reason=reason))
        if by not in DECIDERS:
            assert came == "not_permitted"
        elif asked.is_reviewed:
            assert came == "wrong_state"
        elif by in {asked.glass_by, asked.by, asked.author, *asked.barred}:
            assert came == "four_eyes"
        elif not reason.strip():
            assert came == "reason_required"
        else:
            assert came == ""
            asked.is_reviewed = True
            asked.told["glass.reviewed"] += 1

    @precondition(lambda self: self.asked)
    @rule(pick=some, by=anybody)
    def withdraw(self, pick: int, by: str) -> None:
        asked = self.one(pick)
        came = self.try_(lambda: approvals.withdraw(approval_id=asked.pk, by=user(by), reason=""))
        if by not in {asked.by, asked.author} and not (asked.state == APPROVED and by in DECIDERS):
            assert came == "not_permitted"
        elif asked.state not in APPROVAL_OPEN:
            assert came == "already_decided"
        else:
            assert came == ""
            self.end(asked, ApprovalState.WITHDRAWN, "approval.withdrawn")

    # What happens by itself

    @rule(minutes=st.sampled_from([1, 31, 60, 14 * 60]))
    def time_passes(self, minutes: int) -> None:
        self.clock.shift(timedelta(minutes=minutes))

    @precondition(lambda self: any(asked.state == APPROVED for asked in self.asked))
    @rule(off=offsets)
    def the_hour_comes(self, off: timedelta) -> None:
        asked = next(asked for asked in self.asked if asked.state == APPROVED)
        assert asked.execute_at is not None
        self.clock.move_to(max(timezone.now(), asked.execute_at + off))
        self.the_clock_looks()

    @rule()
    def the_clock_looks(self) -> None:
        """What the clock does with requests (workflows.services.clock)."""
        now = timezone.now()
        for found, act in (
            (ApprovalRequest.objects.expired(now), approvals.expire),
            (approvals.due(now), approvals.carry_out_due),
            (approvals.to_remind(now), approvals.remind),
        ):
            for pk in list(found.values_list("pk", flat=True)):
                act(pk)
        for asked in self.asked:
            if asked.state == PENDING:
                self.let_wait(asked, now)
            elif asked.state == APPROVED:
                self.come_to_its_hour(asked, now)

    def come_to_its_hour(self, asked: Asked, now: datetime) -> None:
        assert asked.execute_at is not None
        if asked.execute_at <= now and not self.is_stale(asked):
            self.carry_out(asked)

    def let_wait(self, asked: Asked, now: datetime) -> None:
        remind_at = asked.expires_at - timedelta(minutes=asked.rule.remind_before_minutes)
        if asked.expires_at <= now:
            self.end(asked, ApprovalState.EXPIRED, "approval.expired")
        elif remind_at <= now and not asked.is_reminded:
            asked.is_reminded = True
            asked.told["approval.reminded"] += 1

    @precondition(lambda self: any(asked.state == ApprovalState.EXECUTING for asked in self.asked))
    @rule(state=st.sampled_from([ApprovalState.EXECUTED, ApprovalState.PARTLY_EXECUTED, ApprovalState.FAILED]))
    def the_last_delivery_is_closed(self, state: ApprovalState) -> None:
        asked = next(asked for asked in self.asked if asked.state == ApprovalState.EXECUTING)
        with transaction.atomic():
            approvals.finish(asked.subject.message, state, "")
        asked.state = state
        asked.told["approval.executed"] += 1

    # What is decided on moves

    @rule(pick=some, size=st.sampled_from([50, 180]))
    def a_group_grows_or_shrinks(self, pick: int, size: int) -> None:
        audience = self.letters[pick % len(self.letters)].message.audience_id
        AudienceMember.objects.filter(audience=audience).update(size=size)
        self.sizes[audience] = size

    @precondition(lambda self: any(asked.is_send for asked in self.pending()))
    @rule()
    def a_group_grows_just_before_everybody_agrees(self) -> None:
        asked = next(asked for asked in self.pending() if asked.is_send)
        self.a_group_grows_or_shrinks(self.letters.index(asked.subject), asked.before + 1)
        for name in sorted(DECIDERS):
            self.decide_on(asked, name, Verdict.APPROVE, "Seen")

    @rule(name=st.sampled_from(ACCOUNTS), first_name=st.sampled_from(["", "T."]))
    def somebody_is_renamed(self, name: str, first_name: str) -> None:
        User.objects.filter(username=name).update(first_name=first_name)
        self.accounts[name].first_name = first_name

    # Going round the services

    @precondition(lambda self: self.asked)
    @rule(pick=some, state=st.sampled_from([PENDING, APPROVED, ApprovalState.EXECUTED]))
    def somebody_writes_a_state_by_hand(self, pick: int, state: ApprovalState) -> None:
        asked = self.one(pick)
        if asked.state not in {state, APPROVED, ApprovalState.EXECUTING}:
            with pytest.raises(DatabaseError), transaction.atomic():
                ApprovalRequest.objects.filter(pk=asked.pk).update(state=state, closed_at=timezone.now())

    # What holds after each step

    @invariant()
    def everything_is_as_the_plain_model_says(self) -> None:
        assert dict(ApprovalRequest.objects.values_list("pk", "state")) == {a.pk: a.state for a in self.asked}
        decided = ApprovalDecision.objects.values_list("request", "decided_by__username", "verdict")
        assert set(decided) == {(a.pk, who, verdict) for a in self.asked for who, verdict in a.verdicts.items()}  # type: ignore[comparison-overlap]
        for letter in self.letters:
            letter.message.refresh_from_db(fields=["state"])
        assert [letter.message.state for letter in self.letters] == [letter.state for letter in self.letters]
        accounts = User.objects.filter(username__in=ACCOUNTS).values_list("username", "is_staff", "first_name")
        assert {name: Account(*rest) for name, *rest in accounts} == self.accounts  # type: ignore[arg-type]

    @invariant()
    def each_step_is_on_the_trail(self) -> None:
        told: dict[str, Counter[str]] = {str(asked.pk): Counter() for asked in self.asked}
        events = AuditEvent.objects.filter(target_type=ApprovalRequest._meta.label_lower)
        for target, what in events.values_list("target_id", "what"):
            told[target][what] += 1
        assert told == {str(asked.pk): +asked.told for asked in self.asked}

    @invariant()
    def states_follow_each_other_as_they_may(self) -> None:
        now = dict(ApprovalRequest.objects.values_list("pk", "state"))
        for pk, state in now.items():
            assert ApprovalState(state) in reachable(ApprovalState(self.seen.get(pk, PENDING)))
        self.seen = now

    @invariant()
    def nothing_happens_without_its_quorum_and_everything_once(self) -> None:
        begun = {state.value for state in {APPROVED, *APPROVAL_CARRIED_OUT}}
        requests = ApprovalRequest.objects.prefetch_related("decisions")
        released = set()
        for request in requests:
            deciders = {decision.decided_by_id for decision in request.decisions.all()}
            assert deciders.isdisjoint({request.requested_by_id, request.authored_by_id, *request.barred})
            agreed = {d.decided_by_id for d in request.decisions.all() if d.verdict == Verdict.APPROVE}
            assert (request.state not in begun) or request.break_glass_by_id or len(agreed) >= request.quorum
            if request.state in begun - {APPROVED} and request.subject_type == Message._meta.label_lower:
                released.add(int(request.subject_id))
        assert sorted(Delivery.objects.values_list("message", flat=True)) == sorted(released)
        changed = {a.pk for a in self.asked if a.state == ApprovalState.EXECUTED and not a.is_send}
        assert sorted(Snapshot.objects.values_list("request", flat=True)) == sorted(changed)

    @invariant()
    def one_at_a_time_is_open_for_a_subject(self) -> None:
        waiting = ApprovalRequest.objects.filter(state__in=sorted(APPROVAL_OPEN))
        subjects = list(waiting.values_list("subject_type", "subject_id"))
        assert len(subjects) == len(set(subjects))


def reachable(state: ApprovalState) -> set[ApprovalState]:
    """In any number of steps; a step of a person may be several of the request."""
    return {state}.union(*(reachable(following) for following in APPROVAL_TRANSITIONS[state]))


def user(name: str) -> User:
    """Anew each time: rights are remembered by the object."""
    return User.objects.get(username=name)


@pytest.fixture
def _everybody() -> None:
    alice, sam = people.alice(), people.sam()
    for name, role in (("mia", roles.AUTHOR), ("adam", roles.ADMINISTRATOR), ("oona", roles.OFFICER)):
        people.person(name, role)
    for make in (people.olivia, people.oscar, people.nora):
        make()
    people.person("terry")
    for group, members in MEMBERS.items():
        Group.objects.create(name=group).user_set.set(User.objects.filter(username__in=members))
    robot = world.robot(alice)
    world.message(alice, world.audience(robot, name="Staff", size=180))
    world.message(sam, world.audience(robot, name="Agents", size=180))


@pytest.mark.usefixtures("_everybody")
def test_whatever_people_do_requests_live_as_they_should(monkeypatch: pytest.MonkeyPatch) -> None:
    with time_machine.travel(MONDAY_TEN, tick=False) as clock:
        Approvals.patch, Approvals.clock = monkeypatch, clock
        run_state_machine_as_test(
            Approvals,
            settings=settings(
                max_examples=50,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            ),
        )
