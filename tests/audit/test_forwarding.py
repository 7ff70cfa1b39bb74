"""Receivers outside are told everything that is sealed, in order, at least once, whatever breaks on the way."""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from audit import context, forwarding, keys, sealing, triggers
from audit.forwarding import https, ocsf, syslog
from audit.forwarding.batch import Batch, NotTaken, of_seal
from audit.models import AuditEvent, AuditForwarder, AuditLeaf, AuditSeal
from audit.recorder import Outcome, record
from audit.vocabulary import AccessEvent, ObjectEvent, TrailEvent
from tests import people
from tests.audit import receivers
from tests.guardrails import Answer, Site, line, website

pytestmark = pytest.mark.django_db


def sealed(*whys: str, **fields: Any) -> list[AuditEvent]:
    """Events of one seal, and no others."""
    sealing.sweep(timezone.now())
    events = [record(AccessEvent.DENIED, why=why, **fields) for why in whys]
    sealing.sweep(timezone.now())
    return events


def told_so_far(name: str) -> None:
    """As if the receiver had been told everything up to now."""
    sealing.sweep(timezone.now())
    newest = AuditSeal.objects.order_by("-n").first()
    AuditForwarder.objects.update_or_create(name=name, defaults={"seal_n": newest.n if newest else 0})


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A collector over HTTP that takes everything, until a test says otherwise."""
    with website({"/events": Answer(status=202)}) as site:
        monkeypatch.setattr(settings, "AUDIT_FORWARD_URL", site.url("/events"))
        told_so_far("https")
        yield site


def taken(site: Site) -> list[str]:
    """The reasons of the events that a collector was sent, in its order."""
    return [event["message"] for seen in site.seen for event in json.loads(seen.body)["events"]]


def row(name: str = "https") -> AuditForwarder:
    return AuditForwarder.objects.get(name=name)


@contextmanager
def syslog_at(address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(settings, "AUDIT_SYSLOG", address)
    told_so_far("syslog")
    yield


class TestTheLoop:
    def test_switched_off_costs_no_query(self, django_assert_num_queries: Callable[..., Any]) -> None:
        sealed("one")
        with django_assert_num_queries(0):
            assert forwarding.due(timezone.now()) == []
        assert forwarding.forward("https") == 0

    def test_events_arrive_in_the_order_of_their_seals(self, collector: Site) -> None:
        for number in range(3):
            sealed(f"{number} a", f"{number} b")
        assert forwarding.forward("https") == 3
        assert taken(collector) == ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b"]
        assert forwarding.due(timezone.now()) == []

    def test_what_is_not_sealed_is_not_told(self, collector: Site) -> None:
        record(AccessEvent.DENIED, why="later")
        assert forwarding.forward("https") == 0
        assert collector.seen == []

    def test_telling_records_nothing_or_it_would_never_end(self, collector: Site) -> None:
        sealed("one")
        before = AuditEvent.objects.count()
        forwarding.forward("https")
        assert AuditEvent.objects.count() == before

    def test_a_late_commit_comes_with_a_later_seal(self, collector: Site) -> None:
        late = record(AccessEvent.DENIED, why="late")
        columns = {field.name: getattr(late, field.attname) for field in AuditEvent._meta.fields}
        triggers.GUARDS.remove(connection)
        connection.cursor().execute("DELETE FROM audit_auditevent WHERE id = %s", [late.pk])
        sealed("early")
        forwarding.forward("https")
        AuditEvent(**columns).save(force_insert=True)  # its lower key becomes visible only now
        triggers.GUARDS.install(connection)
        sealing.sweep(timezone.now())
        forwarding.forward("https")
        assert taken(collector) == ["early", "late"]

    def test_whoever_dies_between_sending_and_noting_sends_again(
        self, collector: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Died(Exception):
            pass

        def send_and_die(batch: Batch) -> None:
            https.send(batch)
            raise Died

        (event,) = sealed("once at least")
        with monkeypatch.context() as patched:
            patched.setattr(forwarding, "receivers", lambda: {"https": send_and_die})
            with pytest.raises(Died):
                forwarding.forward("https")
        assert forwarding.forward("https") == 0  # the dead worker's lease holds for a while
        with time_machine.travel(timezone.now() + timedelta(minutes=2), tick=False):
            assert forwarding.due(timezone.now()) == ["https"]
            assert forwarding.forward("https") == 1
        assert taken(collector) == ["once at least"] * 2
        assert [json.loads(seen.body)["events"][0]["metadata"]["uid"] for seen in collector.seen] == [
            str(event.event_id)
        ] * 2

    def test_a_worker_that_was_overtaken_moves_nothing(self, collector: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        sealed("one")
        sealed("two")

        def send_and_be_overtaken(batch: Batch) -> None:
            https.send(batch)
            AuditForwarder.objects.update(lease_until=timezone.now() + timedelta(hours=1))

        monkeypatch.setattr(forwarding, "receivers", lambda: {"https": send_and_be_overtaken})
        before = row().seal_n
        assert forwarding.forward("https") == 0
        assert row().seal_n == before

    def test_one_worker_at_a_time(self, collector: Site) -> None:
        sealed("one")
        now = timezone.now()
        AuditForwarder.objects.update(lease_until=now + timedelta(seconds=10))
        assert forwarding.due(now) == []
        assert forwarding.forward("https") == 0

    def test_a_worker_is_asked_once_and_again_when_the_hint_was_lost(self, collector: Site) -> None:
        sealed("one")
        now = timezone.now()
        assert forwarding.due(now) == ["https"]
        assert forwarding.reserve("https", now)
        assert not forwarding.reserve("https", now)
        assert forwarding.due(now) == []
        assert forwarding.due(now + timedelta(minutes=2)) == ["https"]

    def test_a_receiver_that_is_new_is_told_from_the_beginning(
        self, collector: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        AuditForwarder.objects.all().delete()
        sealed("one")
        assert forwarding.due(timezone.now()) == ["https"]
        forwarding.forward("https")
        assert row().seal_n == AuditSeal.objects.count()

    def test_it_stops_when_its_time_is_over_and_goes_on_later(
        self, collector: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sealed("one")
        with monkeypatch.context() as patched:
            patched.setattr(forwarding, "_TASK_SECONDS", 0.0)
            assert forwarding.forward("https") == 0
        assert forwarding.due(timezone.now()) == ["https"]
        assert forwarding.forward("https") == 1


class TestAReceiverThatFails:
    def test_it_waits_longer_each_time_up_to_five_minutes_and_catches_up(self, collector: Site) -> None:
        sealed("one")
        collector.pages["/events"] = Answer(status=500)
        waits = []
        with time_machine.travel(timezone.now(), tick=False) as traveller:
            for _ in range(10):
                assert forwarding.due(timezone.now()) == ["https"]
                forwarding.forward("https")
                assert forwarding.due(timezone.now()) == []
                retry_at = row().retry_at
                assert retry_at is not None
                waits.append(retry_at - timezone.now())
                traveller.shift(waits[-1])
            assert [wait.total_seconds() for wait in waits] == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
            assert (row().failures, row().problem) == (10, "The receiver answered HTTP 500.")

            sealed("two")  # the recorder and the sealer never noticed
            collector.pages["/events"] = Answer(status=200)
            collector.seen.clear()
            assert forwarding.forward("https") == 2
        assert taken(collector) == ["one", "two"]
        assert (row().failures, row().problem, row().retry_at) == (0, "", None)

    @pytest.mark.parametrize("status", [300, 302, 400, 401, 404, 413])
    def test_a_refusal_is_never_skipped(self, collector: Site, status: int) -> None:
        sealed("one")
        before = row().seal_n
        collector.pages["/events"] = Answer(status=status, headers={"Location": "/elsewhere"})
        forwarding.forward("https")
        assert (row().seal_n, row().problem) == (before, f"The receiver answered HTTP {status}.")

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            ("120", 120),
            ("Sun, 01 Mar 2026 10:02:00 GMT", 120),
            ("999999999", 3600),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 2),
            ("soon", 2),
            ("-5", 2),
        ],
    )
    def test_a_busy_receiver_gets_the_quiet_that_it_asks_for(self, collector: Site, said: str, seconds: int) -> None:
        collector.pages["/events"] = Answer(status=429, headers={"Retry-After": said})
        with time_machine.travel(datetime(2026, 3, 1, 10, 0, tzinfo=UTC), tick=False):
            sealed("one")
            forwarding.forward("https")
            assert row().retry_at == timezone.now() + timedelta(seconds=seconds)

    def test_the_other_receiver_goes_on(self, collector: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        with receivers.over_tcp() as receiver, syslog_at(receiver.address, monkeypatch):
            sealed("one")
            collector.pages["/events"] = Answer(status=503)
            forwarding.forward("https")
            assert forwarding.forward("syslog") == 1
            assert len(receivers.frames(receiver.take())) == 1
        assert row("https").problem
        assert not row("syslog").problem

    def test_a_token_is_sent_and_never_shown(self, collector: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "AUDIT_FORWARD_TOKEN", "s3cret-token")
        monkeypatch.setattr(settings, "AUDIT_FORWARD_URL", f"{settings.AUDIT_FORWARD_URL}?token=s3cret-token")
        sealed("one")
        forwarding.forward("https")
        assert collector.seen[0].headers["Authorization"] == "Bearer s3cret-token"
        collector.pages["/events"] = Answer(status=401)
        sealed("two")
        forwarding.forward("https")
        assert "s3cret" not in row().problem

    def test_a_connection_that_is_cut_is_not_taken_for_an_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def hang_up(connection: socket.socket, over: threading.Event) -> None:
            connection.recv(10)

        with line(hang_up) as address:
            monkeypatch.setattr(settings, "AUDIT_FORWARD_URL", f"http://{address}/")
            told_so_far("https")
            sealed("one")
            assert forwarding.forward("https") == 0
        assert row().failures == 1
        assert address in row().problem

    def test_an_event_that_was_tampered_with_beyond_reading_is_a_problem_that_is_seen(self, collector: Site) -> None:
        (event,) = sealed("one")
        triggers.GUARDS.remove(connection)  # until this test is rolled back
        connection.cursor().execute("UPDATE audit_auditevent SET canon = '{' WHERE id = %s", [event.pk])
        forwarding.forward("https")
        assert row().problem == f"An event of seal {row().seal_n + 1} cannot be read: verify the trail."


class TestEventsThatAreGone:
    @pytest.fixture(autouse=True)
    def _unguarded(self, collector: Site) -> None:
        """As if some had been purged."""
        self.gone, self.kept = sealed("gone", "kept")
        triggers.GUARDS.remove(connection)  # until this test is rolled back
        connection.cursor().execute("DELETE FROM audit_auditevent WHERE id = %s", [self.gone.pk])

    def test_they_are_told_as_a_number(self, collector: Site) -> None:
        assert forwarding.forward("https") == 1
        (seen,) = collector.seen
        assert json.loads(seen.body)["seal"]["gone"] == 1
        assert taken(collector) == ["kept"]
        assert forwarding.due(timezone.now()) == []

    def test_syslog_has_a_message_for_them(self) -> None:
        seal = AuditSeal.objects.get(n=AuditLeaf.objects.get(event_pk=self.kept.pk).seal_n)
        kept, gap = (parsed(message) for message in syslog.messages(of_seal(seal)))
        assert kept.values["event_id"] == str(self.kept.event_id)
        assert (gap.kind, gap.values) == ("trail.gap", {"seal": str(seal.n), "gone": "1"})


class TestTheJSON:
    def test_a_batch_is_one_seal_under_its_hash(self, collector: Site) -> None:
        sealed("one", "two")
        forwarding.forward("https")
        (seen,) = collector.seen
        seal = AuditSeal.objects.latest("n")
        body = json.loads(seen.body)
        assert seen.method == "POST"
        assert seen.headers["Idempotency-Key"] == bytes(seal.seal_hash).hex() == body["seal"]["seal_hash"]
        assert (body["seal"]["n"], body["seal"]["size"], len(body["events"])) == (seal.n, 2, 2)
        said = {name: body["seal"][name] for name in ("n", "sealed_at", "size", "root", "previous", "key")}
        statement = json.dumps({"schema": seal.schema_v, **said}, sort_keys=True, separators=(",", ":")).encode()
        keys.public_keys()[seal.key_id].verify(bytes.fromhex(body["seal"]["signature"]), statement)

    def test_what_can_be_erased_stays_here(self, collector: Site) -> None:
        sealed("one", erasable={"phone": "13800138000"}, facts={"path": "/admin/"})
        forwarding.forward("https")
        assert b"13800138000" not in collector.seen[0].body
        assert json.loads(collector.seen[0].body)["events"][0]["unmapped"]["path"] == "/admin/"

    @pytest.mark.parametrize(
        ("what", "outcome", "category", "type_uid", "severity", "status"),
        [
            (AccessEvent.SIGNED_IN, Outcome.SUCCESS, 3, 300201, 1, 1),
            (AccessEvent.SIGN_IN_FAILED, Outcome.FAILURE, 3, 300201, 3, 2),
            (AccessEvent.SIGNED_OUT, Outcome.SUCCESS, 3, 300202, 1, 1),
            (AccessEvent.DENIED, Outcome.REFUSED, 3, 300299, 2, 2),
            (ObjectEvent.CREATED, Outcome.SUCCESS, 3, 300401, 1, 1),
            (ObjectEvent.CHANGED, Outcome.SUCCESS, 3, 300403, 1, 1),
            (ObjectEvent.DELETED, Outcome.SUCCESS, 3, 300404, 1, 1),
            (TrailEvent.VERIFIED, Outcome.SUCCESS, 6, 600399, 1, 1),
        ],
    )
    def test_each_kind_has_its_class(
        self, what: str, outcome: Outcome, category: int, type_uid: int, severity: int, status: int
    ) -> None:
        told = ocsf.shaped(record(what, outcome=outcome))
        assert (told["category_uid"], told["type_uid"]) == (category, type_uid)
        assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]
        assert (told["severity_id"], told["status_id"], told["activity_name"]) == (severity, status, what)

    def test_who_where_when_and_why(self) -> None:
        alice = people.alice()
        with context.acting(alice, ip="203.0.113.7"):
            event = record(AccessEvent.DENIED, target=alice, why="No role")
        told = ocsf.shaped(event)
        assert told["actor"]["user"] == told["user"] == {"name": "alice", "uid": str(alice.pk), "type_id": 1}
        assert told["src_endpoint"] == {"ip": "203.0.113.7"}
        assert told["message"] == "No role"
        assert told["time"] == int(event.at.timestamp() * 1000)
        assert told["metadata"]["uid"] == str(event.event_id)
        assert told["metadata"]["correlation_uid"] == str(event.request_id)


class Parsed:
    """A message as RFC 5424 has it, or a failed test."""

    _HEADER = re.compile(
        r"<(?P<priority>\d{1,3})>1 (?P<at>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) (?P<host>[!-~]{1,255}) "
        r"compliance-bot - (?P<kind>[!-~]{1,32}) \[audit@32473(?P<rest>.*)",
        re.DOTALL,
    )
    _VALUE = re.compile(r' ([!-<>-~]{1,32})="((?:[^"\\\]]|\\["\\\]])*)"')

    def __init__(self, message: bytes) -> None:
        match = self._HEADER.fullmatch(message.decode("utf-8"))
        assert match, message
        self.facility, self.severity = divmod(int(match["priority"]), 8)
        self.at = datetime.fromisoformat(match["at"])
        self.kind, rest = match["kind"], match["rest"]
        self.values: dict[str, str] = {}
        while value := self._VALUE.match(rest):
            assert value[1] not in self.values
            self.values[value[1]] = re.sub(r'\\(["\\\]])', r"\1", value[2])
            rest = rest[value.end() :]
        assert rest.startswith("] \ufeff"), rest
        self.text = rest[3:]


parsed = Parsed


def message_of(event: AuditEvent) -> bytes:
    seal = AuditSeal(n=7, sealed_at=timezone.now())
    (message,) = syslog.messages(Batch(seal=seal, events=[event], gone=0))
    return message


HOSTILE = 'one\nline\r\n<104>1 2026-01-01T00:00:00Z forged - - - \x00\x85\u2028\u2029\u202e"quoted" ] [x="y"] \\ 群发'


class TestRFC5424:
    def test_who_what_when_why(self) -> None:
        alice = people.alice()
        with context.acting(alice, ip="203.0.113.7"):
            event = record(AccessEvent.DENIED, target=alice, why="No role", outcome=Outcome.REFUSED)
        said = parsed(message_of(event))
        assert (said.facility, said.severity) == (13, 4)
        assert (said.at, said.kind) == (event.at, "access.denied")
        assert said.values == {
            "who": "alice",
            "request_id": str(event.request_id),
            "event_id": str(event.event_id),
            "object": f"auth.user {alice.pk}",
            "outcome": "refused",
            "ip": "203.0.113.7",
            "seal": "7",
        }
        assert said.text == "Access denied: alice: No role"

    @pytest.mark.parametrize(("outcome", "severity"), [("success", 6), ("refused", 4), ("failure", 3)])
    def test_the_severity_follows_the_outcome(self, outcome: str, severity: int) -> None:
        assert parsed(message_of(record(AccessEvent.DENIED, outcome=Outcome(outcome)))).severity == severity

    @given(st.text(max_size=300))
    def test_no_text_breaks_out_of_its_place(self, text: str) -> None:
        event = AuditEvent(
            at=datetime(2026, 3, 1, tzinfo=UTC), what=AccessEvent.DENIED, outcome="success", who_label=text, why=text
        )
        said = parsed(message_of(event))
        shown = "".join(character if character.isprintable() else " " for character in text)
        assert said.values.get("who", "") == shown
        assert said.text == (f"Access denied: {shown}" if text else "Access denied")
        assert len(message_of(event).splitlines()) == 1

    @pytest.mark.parametrize("text", [HOSTILE, "群" * 10_000], ids=["hostile", "long"])
    def test_over_tcp_hostile_texts_are_one_message_each(self, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with receivers.over_tcp() as receiver, syslog_at(receiver.address, monkeypatch):
            events = sealed(text, "harmless")
            assert forwarding.forward("syslog") == 1
            messages = [parsed(message) for message in receivers.frames(receiver.take())]
        assert [said.values["event_id"] for said in messages] == [str(event.event_id) for event in events]
        assert messages[1].text == "Access denied: harmless"

    def test_over_udp_a_message_is_one_datagram_and_cut_between_characters(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with receivers.over_udp() as receiver, syslog_at(receiver.address, monkeypatch):
            sealed("a" + "群" * 5_000, "short")
            assert forwarding.forward("syslog") == 1
            long, short = receiver.take(), receiver.take()
        assert 8189 <= len(long) <= 8192
        assert parsed(long).text.endswith("群")
        assert parsed(short).text == "Access denied: short"


class TestOverTLS:
    def test_a_receiver_that_is_vouched_for_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        secured, authority = receivers.certified(tmp_path)
        monkeypatch.setattr(settings, "AUDIT_SYSLOG_CA", str(authority))
        with receivers.over_tcp(secured=secured) as receiver, syslog_at(receiver.address, monkeypatch):
            sealed("one")
            assert forwarding.forward("syslog") == 1
            (message,) = receivers.frames(receiver.take())
        assert parsed(message).text == "Access denied: one"

    def test_a_stranger_is_told_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        secured, _ = receivers.certified(tmp_path)
        with receivers.over_tcp(secured=secured) as receiver, syslog_at(receiver.address, monkeypatch):
            sealed("one")
            assert forwarding.forward("syslog") == 0
        assert receiver.takes.empty()
        assert "certificate verify failed" in row("syslog").problem


class TestASyslogReceiverThatGoesAway:
    def refused(self, address: str, monkeypatch: pytest.MonkeyPatch) -> str:
        with syslog_at(address, monkeypatch):
            sealed("one")
            assert forwarding.forward("syslog") == 0
        return row("syslog").problem

    def test_nobody_listens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
            assert "Connection refused" in self.refused(address, monkeypatch)

    def test_it_goes_without_reading_to_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def half_read(connection: socket.socket, over: threading.Event) -> None:
            connection.recv(10)

        with line(half_read) as address:
            assert "did not take the messages" in self.refused(f"tcp://{address}", monkeypatch)

    def test_it_never_answers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(syslog, "_BATCH_SECONDS", 0.2)

        def hang(connection: socket.socket, over: threading.Event) -> None:
            over.wait()

        with line(hang) as address:
            assert "timed out" in self.refused(f"tcp://{address}", monkeypatch)


@pytest.mark.usefixtures("committed")
class TestWithRealCommits:
    def test_a_receiver_that_is_down_blocks_no_recorder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While a worker waits for the receiver, events are recorded and sealed by others."""
        reached, recorded = threading.Event(), threading.Event()

        def stuck(batch: Batch) -> None:
            reached.set()
            assert recorded.wait(20)
            raise NotTaken("gone")

        with transaction.atomic():
            sealed("one")
        monkeypatch.setattr(forwarding, "receivers", lambda: {"https": stuck})

        def work() -> None:
            forwarding.forward("https")
            connection.close()

        worker = threading.Thread(target=work)
        worker.start()
        assert reached.wait(20)
        with transaction.atomic():
            record(AccessEvent.DENIED, why="two")
        sealing.sweep(timezone.now())
        recorded.set()
        worker.join()
        assert row().problem == "gone"
        assert AuditSeal.objects.count() >= 2

    def test_of_many_workers_at_once_one_tells(self, collector: Site) -> None:
        with transaction.atomic():
            sealed("one")
        barrier = threading.Barrier(4)

        def work() -> None:
            barrier.wait()
            forwarding.forward("https")
            connection.close()

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert taken(collector) == ["one"]
