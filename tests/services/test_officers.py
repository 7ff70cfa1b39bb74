"""Mail about requests, through a real mail server: who gets it, what it says, and what it can never do."""

from collections.abc import Callable, Iterator

import pytest
import time_machine
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.module_loading import import_string
from django_q.models import OrmQ

from audit import context, notices
from audit.models import AuditEvent
from compliance_bot import env
from tests import people, world
from tests.smtp import MailServer, serving
from workflows.domain.states import ApprovalState, Verdict
from workflows.models import ApprovalDecision, ApprovalRequest, Message
from workflows.services import approvals, messages, officers

pytestmark = pytest.mark.django_db

SITE = "https://compliance.example"
TASKS = {f"workflows.tasks.{name}" for name in ("ask_officers", "remind_officers", "tell_requester", "alert_glass")}
SetPolicy = Callable[[str], None]
SECRET_TEXT = "The regulator comes on Tuesday."


def rules(rule: str) -> str:
    return f"security: {{actions: {{rules: {{mass_send: {{{rule}}}}}}}}}"


class Killed(BaseEmailBackend):
    """The machine goes down while a mail leaves."""

    def open(self) -> bool:
        raise SystemExit


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """The product's mail goes to this one."""
    with serving() as server:
        monkeypatch.setattr(settings, "HAS_MAIL_SERVER", True)
        monkeypatch.setattr(settings, "EMAIL_BACKEND", "django.core.mail.backends.smtp.EmailBackend")
        monkeypatch.setattr(settings, "EMAIL_HOST", "127.0.0.1")
        monkeypatch.setattr(settings, "EMAIL_PORT", server.port)
        monkeypatch.setattr(settings, "DEFAULT_FROM_EMAIL", "Compliance Bot <bot@compliance.example>")
        monkeypatch.setattr(settings, "BASE_URL", SITE)
        yield server


def with_address(user: User) -> User:
    user.email = f"{user.get_username()}@example.com"
    user.save()
    return user


@pytest.fixture
def alice() -> User:
    return with_address(people.alice())


@pytest.fixture
def olivia() -> User:
    return with_address(people.olivia())


@pytest.fixture
def request_(alice: User, olivia: User) -> ApprovalRequest:
    """A mass send that alice wrote and submitted; olivia may decide."""
    return submitted(alice)


def submitted(by: User, subject: str = "Quarterly reminder") -> ApprovalRequest:
    draft = world.message(by, world.audience(world.robot(by)), subject=subject, body=SECRET_TEXT)
    with context.acting(by):
        messages.submit(message_id=draft.pk, by=by)
    return ApprovalRequest.objects.get()


def body(server: MailServer, address: str) -> str:
    """Of the only mail to this address."""
    (mail,) = server.to(address)
    return str(mail.get_content())


def facts(what: str = "approval.notified") -> list[dict[str, object]]:
    return [event.facts for event in AuditEvent.objects.filter(what=what).order_by("pk")]


def work() -> None:
    """Let a worker do what was queued about requests."""
    for queued in OrmQ.objects.order_by("pk"):
        if queued.func() in TASKS:
            import_string(queued.func())(*queued.args())
            queued.delete()


class TestAsking:
    def test_a_mail_says_who_asks_for_what_and_why_and_leads_to_the_page(
        self, server: MailServer, request_: ApprovalRequest
    ) -> None:
        officers.ask(request_.pk)
        (mail,) = server.to("olivia@example.com")
        assert mail["Subject"] == "Waiting for approval: Quarterly reminder"
        text = body(server, "olivia@example.com")
        for line in (
            "What: Mass send: Quarterly reminder",
            "Size: 180",
            "Requested by: alice",
            "Reason: Yearly duty",
            f"{SITE}/admin/workflows/approvalrequest/{request_.pk}/change/",
        ):
            assert line in text.splitlines()
        expires = timezone.localtime(request_.expires_at)
        assert f"Expires: {expires:%Y-%m-%d %H:%M} (Asia/Shanghai)" in text

    def test_what_the_message_says_stays_inside(self, server: MailServer, request_: ApprovalRequest) -> None:
        officers.ask(request_.pk)
        assert SECRET_TEXT not in body(server, "olivia@example.com")

    def test_only_those_are_asked_who_can_decide_and_each_alone(
        self, server: MailServer, request_: ApprovalRequest
    ) -> None:
        with_address(people.oscar())
        with_address(people.nora())
        people.sam()  # has no address
        officers.ask(request_.pk)
        assert server.addresses() == ["olivia@example.com", "oscar@example.com"]
        assert [mail["To"] for _address, mail in server.took] == server.addresses()
        assert server.connections == 1

    def test_an_account_that_is_switched_off_is_not_asked(
        self, server: MailServer, request_: ApprovalRequest, olivia: User
    ) -> None:
        User.objects.filter(pk=olivia.pk).update(is_active=False)
        officers.ask(request_.pk)
        assert server.took == []

    def test_the_notice_belongs_to_the_cause_of_the_request(
        self, server: MailServer, request_: ApprovalRequest
    ) -> None:
        work()
        assert server.addresses() == ["olivia@example.com"]
        asked = AuditEvent.objects.get(what="approval.requested")
        event = AuditEvent.objects.get(what="approval.notified")
        assert (event.request_id, event.on_behalf_of) == (asked.request_id, "alice")
        assert event.parent_event_id == asked.event_id
        assert event.facts == {"notice": "asked", "to": ["olivia"], "failures": []}

    def test_nobody_is_asked_about_what_is_settled(
        self, server: MailServer, request_: ApprovalRequest, alice: User
    ) -> None:
        approvals.withdraw(approval_id=request_.pk, by=alice, reason="")
        officers.ask(request_.pk)
        officers.remind(request_.pk)
        assert server.took == []

    def test_nobody_is_asked_about_what_is_over(self, server: MailServer, request_: ApprovalRequest) -> None:
        with time_machine.travel(request_.expires_at, tick=False):
            officers.ask(request_.pk)
        assert server.took == []

    def test_the_system_writes_in_its_own_language(
        self, server: MailServer, request_: ApprovalRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "LANGUAGE_CODE", "zh-hans")
        officers.ask(request_.pk)
        (mail,) = server.to("olivia@example.com")
        assert mail["Subject"] == "待审批: Quarterly reminder"
        assert "提交人: alice" in mail.get_content()
        assert translation.get_language() == "en"


class TestTheReminder:
    def test_it_says_that_time_runs_out_and_belongs_to_the_same_thread(
        self, server: MailServer, request_: ApprovalRequest
    ) -> None:
        approvals.remind(request_.pk)
        work()
        asked, reminded = server.to("olivia@example.com")
        assert reminded["Subject"] == "Expires soon: Quarterly reminder"
        assert "Nobody has decided" in reminded.get_content()
        assert asked["References"] == reminded["References"]
        assert asked["Message-ID"] != reminded["Message-ID"]

    def test_the_second_group_is_reminded_too(
        self, server: MailServer, set_policy: SetPolicy, alice: User, olivia: User
    ) -> None:
        olivia.groups.add(Group.objects.create(name="First"))
        with_address(people.oscar()).groups.add(Group.objects.create(name="Second"))
        set_policy(rules("group: First, escalate_to: Second"))
        request = submitted(alice)
        work()
        assert server.addresses() == ["olivia@example.com"]
        approvals.remind(request.pk)
        work()
        assert server.addresses()[1:] == ["olivia@example.com", "oscar@example.com"]


class TestTheOutcome:
    def test_a_denial_is_told_with_who_and_why(
        self, server: MailServer, request_: ApprovalRequest, olivia: User
    ) -> None:
        approvals.decide(approval_id=request_.pk, verdict=Verdict.DENY, by=olivia, reason="Wrong quarter")
        work()
        text = body(server, "alice@example.com").splitlines()
        assert {"Outcome: Denied", "By: olivia", "Why: Wrong quarter"} <= set(text)
        assert server.addresses() == ["alice@example.com"]

    def test_what_is_approved_and_waits_is_told_with_its_hour(
        self, server: MailServer, set_policy: SetPolicy, alice: User, olivia: User
    ) -> None:
        set_policy(rules("delay_minutes: 90"))
        request = submitted(alice)
        approvals.decide(approval_id=request.pk, verdict=Verdict.APPROVE, by=olivia, reason="")
        work()
        request.refresh_from_db()
        assert request.execute_at is not None
        hour = f"{timezone.localtime(request.execute_at):%Y-%m-%d %H:%M} (Asia/Shanghai)"
        text = body(server, "alice@example.com").splitlines()
        assert {"Outcome: Approved", "By: olivia", f"Will be carried out: {hour}"} <= set(text)

    @pytest.mark.parametrize(
        ("state", "label"),
        [
            (ApprovalState.EXECUTED, "Executed"),
            (ApprovalState.PARTLY_EXECUTED, "Partly executed"),
            (ApprovalState.FAILED, "Failed"),
        ],
    )
    def test_how_carrying_out_ended_is_told(
        self, server: MailServer, request_: ApprovalRequest, olivia: User, state: ApprovalState, label: str
    ) -> None:
        approvals.decide(approval_id=request_.pk, verdict=Verdict.APPROVE, by=olivia, reason="")
        officers.tell_requester(request_.pk)
        assert server.took == []  # being carried out is no outcome
        approvals.finish(Message.objects.get(), state, "3 of 4 arrived")
        work()
        text = body(server, "alice@example.com").splitlines()
        assert {f"Outcome: {label}", "By: olivia", "Why: 3 of 4 arrived"} <= set(text)

    def test_running_out_is_nobodys_doing(self, server: MailServer, request_: ApprovalRequest) -> None:
        approvals.expire(request_.pk)
        work()
        text = body(server, "alice@example.com")
        assert "Outcome: Expired" in text
        assert "By:" not in text

    def test_moved_content_is_told(self, server: MailServer, request_: ApprovalRequest, olivia: User) -> None:
        Message.objects.update(body="Something else")
        with pytest.raises(Exception, match="Not approved"):
            approvals.decide(approval_id=request_.pk, verdict=Verdict.APPROVE, by=olivia, reason="")
        work()
        assert "Outcome: Void: content changed" in body(server, "alice@example.com")

    def test_who_took_it_back_is_not_told_but_the_other_is(self, server: MailServer, alice: User, olivia: User) -> None:
        sam = with_address(people.sam())
        draft = world.message(sam, world.audience(world.robot(sam)))
        messages.submit(message_id=draft.pk, by=alice)
        request = ApprovalRequest.objects.get()
        approvals.withdraw(approval_id=request.pk, by=alice, reason="A typing slip")
        work()
        assert server.addresses() == ["sam@example.com"]
        assert {"By: alice", "Why: A typing slip"} <= set(body(server, "sam@example.com").splitlines())

    def test_a_newer_request_of_another_person_is_told(
        self, server: MailServer, request_: ApprovalRequest, alice: User
    ) -> None:
        sam, message = with_address(people.sam()), Message.objects.get()
        with transaction.atomic(), context.acting(sam):
            approvals.request(
                action="mass_send", subject=message, size=180, reason="Mine", requested_by=sam, authored_by=alice
            )
        work()
        (mail,) = server.to("alice@example.com")
        assert mail["Subject"] == "Superseded by a newer request: Quarterly reminder"
        assert "By: sam" in mail.get_content().splitlines()

    def test_a_request_that_waits_has_no_outcome(self, server: MailServer, request_: ApprovalRequest) -> None:
        officers.tell_requester(request_.pk)
        assert server.took == []


class TestTheAlert:
    WHY = "The deadline of the regulator ends in ten minutes"

    @pytest.fixture
    def broken(self, request_: ApprovalRequest) -> ApprovalRequest:
        approvals.break_glass(approval_id=request_.pk, by=with_address(people.sam()), reason=self.WHY)
        return request_

    def test_everybody_who_may_decide_is_alerted_whatever_their_group(
        self, server: MailServer, set_policy: SetPolicy, alice: User, olivia: User
    ) -> None:
        olivia.groups.add(Group.objects.create(name="First"))
        with_address(people.oscar())
        set_policy(rules("group: First"))
        request = submitted(alice)
        approvals.break_glass(approval_id=request.pk, by=with_address(people.sam()), reason=self.WHY)
        work()
        assert server.addresses() == ["olivia@example.com", "oscar@example.com", "sam@example.com"]
        text = body(server, "oscar@example.com").splitlines()
        assert {"Carried out by: sam", f"Without approval because: {self.WHY}"} <= set(text)
        assert f"{SITE}/admin/workflows/approvalrequest/{request.pk}/change/" in text

    def test_who_answers_for_the_trail_is_told_even_without_a_mail_server(
        self, broken: ApprovalRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard: list[str] = []
        monkeypatch.setattr(notices, "_senders", {"channel": lambda subject, text: heard.append(subject + text)})
        officers.alert_glass(broken.pk)
        officers.alert_glass(broken.pk)
        (text,) = heard
        assert "Carried out by: sam" in text
        assert facts() == [{"notice": "glass-trail", "to": ["channel"], "failures": []}]

    def test_a_channel_that_cannot_be_reached_is_on_the_trail_and_the_officers_are_told(
        self, server: MailServer, broken: ApprovalRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def busy(subject: str, text: str) -> None:
            raise notices.NotTold("The channel is busy.")

        monkeypatch.setattr(notices, "_senders", {"channel": busy})
        officers.alert_glass(broken.pk)
        assert server.addresses() == ["olivia@example.com", "sam@example.com"]
        assert facts()[1] == {"notice": "glass-trail", "to": [], "failures": ["channel"]}


class TestWhatGoesWrong:
    def test_without_a_mail_server_nothing_is_tried(self, request_: ApprovalRequest) -> None:
        officers.ask(request_.pk)
        assert facts("approval.notifying") == facts() == []

    def test_a_refused_recipient_does_not_stop_the_others(self, server: MailServer, request_: ApprovalRequest) -> None:
        with_address(people.oscar())
        server.refuses = {"olivia@example.com"}
        officers.ask(request_.pk)
        assert server.addresses() == ["oscar@example.com"]
        event = AuditEvent.objects.get(what="approval.notified")
        assert event.facts == {"notice": "asked", "to": ["oscar"], "failures": ["olivia"]}
        assert event.outcome == "failure"
        assert "olivia@example.com" not in event.canon  # the server repeats the address: kept where it can be erased

    @pytest.mark.parametrize("address", ["olivia@example.com\nBcc: all@example.com", "a@example.com, b@example.com"])
    def test_an_address_that_is_none_is_a_failure_of_its_own(
        self, server: MailServer, request_: ApprovalRequest, address: str
    ) -> None:
        with_address(people.oscar())
        User.objects.filter(username="olivia").update(email=address)
        officers.ask(request_.pk)
        assert server.addresses() == ["oscar@example.com"]
        assert facts() == [{"notice": "asked", "to": ["oscar"], "failures": ["olivia"]}]

    def test_a_server_that_is_not_there_is_on_the_trail_and_not_an_error(
        self, server: MailServer, request_: ApprovalRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "EMAIL_PORT", 9)
        officers.ask(request_.pk)
        assert facts() == [{"notice": "asked", "to": [], "failures": ["olivia"]}]

    def test_a_server_that_hangs_up_is_not_asked_again(self, server: MailServer, request_: ApprovalRequest) -> None:
        with_address(people.oscar())
        with_address(people.sam())
        server.hangs_up_after = 1
        officers.ask(request_.pk)
        assert server.addresses() == ["olivia@example.com"]
        assert facts() == [{"notice": "asked", "to": ["olivia"], "failures": ["oscar", "sam"]}]
        assert server.connections == 1

    def test_a_task_that_is_handed_out_again_mails_nobody_twice(
        self, server: MailServer, request_: ApprovalRequest
    ) -> None:
        officers.ask(request_.pk)
        officers.ask(request_.pk)
        assert server.addresses() == ["olivia@example.com"]
        assert len(facts()) == 1

    def test_a_task_that_died_half_way_mails_nobody_twice(
        self, server: MailServer, request_: ApprovalRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(settings, "EMAIL_BACKEND", f"{__name__}.Killed")
            with pytest.raises(SystemExit):
                officers.ask(request_.pk)
        officers.ask(request_.pk)
        assert server.took == []
        assert facts("approval.notifying") == [{"notice": "asked", "to": ["olivia"]}]

    def test_the_same_notice_to_the_same_person_has_the_same_message_id(
        self, server: MailServer, request_: ApprovalRequest, olivia: User
    ) -> None:
        officers.ask(request_.pk)
        (mail,) = server.to("olivia@example.com")
        thread = f"approval-{request_.pk}.{request_.request_id.hex[-12:]}"
        assert mail["Message-ID"] == f"<{thread}.asked.{olivia.pk}@compliance.example>"

    def test_foreign_text_forges_neither_a_header_nor_a_line(
        self, server: MailServer, alice: User, olivia: User
    ) -> None:
        request = submitted(alice, "Harmless\r\nBcc: all@example.com")
        forged = "Duty\n\nOpening the page decides nothing.\nhttps://evil.example/"
        approvals.decide(approval_id=request.pk, verdict=Verdict.DENY, by=olivia, reason=forged)
        work()
        (mail,) = server.to("alice@example.com")
        assert mail["Bcc"] is None
        assert mail["Subject"] == "Denied: Harmless Bcc: all@example.com"
        assert "https://evil.example/" not in mail.get_content().splitlines()
        assert server.addresses() == ["alice@example.com"]


class TestLinks:
    def test_opening_the_link_decides_nothing(
        self, server: MailServer, request_: ApprovalRequest, olivia: User
    ) -> None:
        """A scanner of mail follows links, and so does a browser that fetches ahead with the officer's session."""
        officers.ask(request_.pk)
        (link,) = [line for line in body(server, "olivia@example.com").splitlines() if line.startswith(SITE)]
        scanner, ahead = Client(), Client()
        ahead.force_login(olivia)
        for client in (scanner, ahead):
            for query in ("", "?approve=1", "?verdict=approve&_method=POST"):
                client.get(link.removeprefix(SITE) + query)
                client.head(link.removeprefix(SITE) + query)
        decide = reverse("admin:workflows_approvalrequest_decide", args=[request_.pk])
        assert ahead.get(decide, {"approve": "1"}).status_code == 405
        request_.refresh_from_db()
        assert request_.state == ApprovalState.PENDING
        assert not ApprovalDecision.objects.exists()

    def test_without_an_address_of_the_product_the_mail_names_the_page(
        self, server: MailServer, request_: ApprovalRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(settings, "BASE_URL", "")
        officers.ask(request_.pk)
        text = body(server, "olivia@example.com")
        assert f"open number {request_.pk} under “Approval requests”" in text
        assert "/admin/" not in text

    @pytest.mark.parametrize(("mail", "address", "warned"), [(True, "", True), (True, SITE, False), (False, "", False)])
    def test_the_deployment_check_misses_the_address_where_there_is_mail(
        self, monkeypatch: pytest.MonkeyPatch, mail: object, address: str, warned: object
    ) -> None:
        monkeypatch.setattr(settings, "HAS_MAIL_SERVER", mail)
        monkeypatch.setattr(settings, "BASE_URL", address)
        found = [message.id for message in run_checks(include_deployment_checks=True)]
        assert ("compliance_bot.W001" in found) is warned

    def test_plain_http_is_refused_but_on_loopback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(env._env.ENVIRON, "BASE_URL", "http://compliance.example")
        with pytest.raises(ImproperlyConfigured, match="BASE_URL"):
            env.web_address("BASE_URL", plain=("127.0.0.1",))


class TestTheHomePage:
    def home(self, user: User) -> str:
        client = Client()
        client.force_login(user)
        return client.get(reverse("admin:index")).content.decode()

    def test_the_requester_sees_what_became_of_it(self, request_: ApprovalRequest, alice: User, olivia: User) -> None:
        approvals.decide(approval_id=request_.pk, verdict=Verdict.DENY, by=olivia, reason="Wrong quarter")
        assert "What you asked for" in self.home(alice)
        assert "Wrong quarter" in self.home(alice)
        assert "What you asked for" not in self.home(olivia)

    def test_the_last_five_are_shown_at_the_cost_of_one(self, request_: ApprovalRequest, alice: User) -> None:
        client = Client()
        client.force_login(alice)

        def visit() -> tuple[int, str]:
            client.get(reverse("admin:index"))  # permissions and content types are cached
            with CaptureQueriesContext(connection) as captured:
                html = client.get(reverse("admin:index")).content.decode()
            return len(captured), html.partition("What you asked for")[2].partition("</section>")[0]

        one, _html = visit()
        to = Message.objects.get().audience
        for number in range(6):
            messages.submit(message_id=world.message(alice, to, subject=f"Message {number}").pk, by=alice)
        seven, html = visit()
        assert seven == one
        assert [f"Message {number}" in html for number in range(6)] == [False, True, True, True, True, True]

    def test_what_was_carried_out_without_approval_stands_there_until_it_is_reviewed(
        self, request_: ApprovalRequest, alice: User, olivia: User
    ) -> None:
        heading = "Carried out without approval, to be reviewed"
        approvals.break_glass(approval_id=request_.pk, by=people.sam(), reason=TestTheAlert.WHY)
        assert heading in self.home(olivia)
        assert TestTheAlert.WHY in self.home(olivia)
        assert heading not in self.home(alice)
        approvals.review(approval_id=request_.pk, by=olivia, reason="It was right")
        assert heading not in self.home(olivia)
