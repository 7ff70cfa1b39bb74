"""Finding events: the same on both databases, in any combination, with any text."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit import context, search, search_index
from audit.forms import SearchForm
from audit.models import AuditEvent
from audit.recorder import Outcome, record
from audit.search import Search
from audit.vocabulary import AccessEvent, ObjectEvent, TrailEvent
from tests import people
from workflows import roles

pytestmark = pytest.mark.django_db

# Later than whatever an installation has recorded of itself.
NOON = datetime(2046, 3, 2, 12, tzinfo=UTC)


def found(**asked: Any) -> list[str]:
    """The reasons of what a search finds, newest first."""
    return [event.why for event in search.page(Search(**asked), size=50).events]


class TestWords:
    @pytest.fixture(autouse=True)
    def events(self) -> None:
        record(AccessEvent.DENIED, why="Alice asked for the Quarterly report")
        record(AccessEvent.DENIED, why="合规审批群发消息")
        record(AccessEvent.SIGNED_OUT, why="quarterly cleaning", facts={"robot": "审计机器人", "n": [4711]})

    @pytest.mark.parametrize(
        ("q", "whys"),
        [
            ("quarterly", ["quarterly cleaning", "Alice asked for the Quarterly report"]),
            ("QUARTERLY report", ["Alice asked for the Quarterly report"]),
            ("quarter*", ["quarterly cleaning", "Alice asked for the Quarterly report"]),
            ("quarter", []),
            ("群发", ["合规审批群发消息"]),
            ("审", ["quarterly cleaning", "合规审批群发消息"]),
            ("息", ["合规审批群发消息"]),
            ("发群", []),
            ("机器人 4711", ["quarterly cleaning"]),
            ("nobody", []),
        ],
    )
    def test_find_what_has_all_of_them(self, q: str, whys: list[str]) -> None:
        assert found(q=q) == whys

    @pytest.mark.parametrize("q", ["Access denied", "访问被拒", "被拒", "access.denied"])
    def test_find_what_happened_by_the_name_that_people_see(self, q: str) -> None:
        assert len(found(q=q)) == 2

    @pytest.mark.parametrize("q", ["what*", "outcome*", "why*", "block*"])
    def test_do_not_find_the_names_of_the_index_itself(self, q: str) -> None:
        assert found(q=q) == []

    def test_of_mere_punctuation_ask_for_nothing(self) -> None:
        assert found(q="?! …") == found()

    def test_find_a_reason_only_where_it_is_a_reason(self) -> None:
        assert found(why="机器人") == []
        assert found(why="群发") == ["合规审批群发消息"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60), st.text(max_size=20))
def test_any_text_is_a_search_and_never_an_error(q: str, why: str) -> None:
    search.page(Search(q=q, why=why), size=5)
    search.count(Search(q=q, why=why))


class TestFilters:
    @pytest.fixture(autouse=True)
    def events(self) -> None:
        alice = people.alice()
        with context.acting(alice):
            record(AccessEvent.DENIED, why="by alice", outcome=Outcome.REFUSED)
            record(ObjectEvent.CHANGED, why="alice changed herself", target=alice)
        with context.system_acting(on_behalf_of="alice"):
            record(TrailEvent.VERIFIED, why="for alice", outcome=Outcome.FAILURE)
        record(TrailEvent.VERIFIED, why="by itself")
        self.alice = alice

    @pytest.mark.parametrize(
        ("asked", "whys"),
        [
            ({"who": "Alice"}, ["for alice", "alice changed herself", "by alice"]),
            ({"what": "trail.verified"}, ["by itself", "for alice"]),
            ({"what": "trail"}, ["by itself", "for alice"]),
            ({"kind": "user"}, ["alice changed herself", "by alice"]),
            ({"outcome": "refused"}, ["by alice"]),
            ({"who": "alice", "outcome": "failure"}, ["for alice"]),
            ({"object": "auth.user", "who": "alice"}, ["alice changed herself"]),
            ({"who": "nobody"}, []),
            ({"q": "alice", "what": "trail.verified", "outcome": "failure", "why": "for"}, ["for alice"]),
        ],
    )
    def test_combine(self, asked: dict[str, str], whys: list[str]) -> None:
        assert found(**asked) == whys

    def test_an_object_is_found_by_its_kind_and_id(self) -> None:
        assert found(object=f"auth.user:{self.alice.pk}", why="changed") == ["alice changed herself"]
        assert found(object=f"auth.user:{self.alice.pk}1") == []

    def test_a_request_id_finds_its_events_in_the_box_and_as_a_filter(self) -> None:
        with context.system_acting() as cause:
            record(TrailEvent.CHECKED, why="first of two")
            event = record(TrailEvent.CHECKED, why="second of two")
        assert found(request=cause.request_id) == found(q=str(cause.request_id)) == ["second of two", "first of two"]
        assert found(q=f"{cause.request_id.hex} first") == ["first of two"]
        assert found(q=str(event.event_id)) == ["second of two"]
        assert found(request=uuid.uuid4()) == []


class TestTime:
    def at(self, hours: float) -> datetime:
        return NOON + timedelta(hours=hours)

    @pytest.fixture(autouse=True)
    def events(self) -> None:
        for hours in (0, 1, 2, 3):
            with time_machine.travel(self.at(hours), tick=False):
                record(AccessEvent.DENIED, why=f"after {hours} h")

    @pytest.mark.parametrize("q", ["", "after"])
    def test_the_beginning_counts_and_the_end_does_not(self, q: str) -> None:
        assert found(q=q, since=self.at(1), until=self.at(3)) == ["after 2 h", "after 1 h"]
        assert found(q=q, since=self.at(0.5), until=self.at(1.01)) == ["after 1 h"]
        assert found(q=q, since=self.at(4)) == []
        assert found(q=q, what="access.denied", until=self.at(0)) == []

    def test_a_machine_whose_clock_is_behind_is_still_in_its_time(self) -> None:
        for at, why in ((self.at(5), "first"), (self.at(5) - timedelta(minutes=4), "late"), (self.at(9), "last")):
            with time_machine.travel(at, tick=False):
                record(AccessEvent.DENIED, why=why)
        assert found(q="late", until=self.at(5)) == ["late"]
        assert found(since=self.at(4.5), until=self.at(5)) == ["late"]
        assert found(since=self.at(5), until=self.at(6)) == ["first"]


class TestPages:
    @pytest.fixture(autouse=True)
    def events(self) -> None:
        for number in range(7):
            record(AccessEvent.DENIED, why=f"number {number} {'odd' if number % 2 else 'even'}")

    @pytest.mark.parametrize(("asked", "expected"), [({}, 7), ({"q": "number"}, 7), ({"q": "even"}, 4)])
    def test_follow_each_other_there_and_back_without_gap_or_repetition(
        self, asked: dict[str, Any], expected: int
    ) -> None:
        asked_for = Search(what="access.denied", **asked)
        page = search.page(asked_for, size=3)
        assert page.newer is None
        pages = [page]
        while page.older is not None:
            page = search.page(asked_for, size=3, before=page.older)
            pages.append(page)
        keys = [event.pk for each in pages for event in each.events]
        assert keys == sorted(set(keys), reverse=True)
        assert len(keys) == expected
        back = search.page(asked_for, size=3, after=pages[-1].newer)
        assert [event.pk for event in back.events] == [event.pk for event in pages[-2].events]

    def test_beyond_the_last_one_there_is_an_empty_page_with_a_way_back(self) -> None:
        oldest = AuditEvent.objects.order_by("pk")[0].pk
        page = search.page(Search(), size=3, before=oldest)
        assert (page.events, page.older) == ([], None)
        assert search.page(Search(), size=50, after=page.newer).events[-1].pk == oldest

    def test_words_within_one_request_are_looked_for_in_all_of_it(
        self, django_assert_max_num_queries: Callable[[int], Any]
    ) -> None:
        with context.system_acting() as cause:
            record(AccessEvent.DENIED, why="needle")
            for _ in range(30):
                record(AccessEvent.DENIED, why="hay")
        with django_assert_max_num_queries(3):
            assert found(request=cause.request_id, q="needle") == ["needle"]
        with django_assert_max_num_queries(5):
            assert [len(keys) for keys in search.chunks(Search(request=cause.request_id), below=2**62, size=40)] == [31]

    def test_chunks_hold_everything_once(self) -> None:
        chunks = list(search.chunks(Search(q="number"), below=2**62, size=3))
        assert [len(chunk) for chunk in chunks] == [3, 3, 1]
        assert len({key for chunk in chunks for key in chunk}) == 7

    def test_a_page_counts_as_far_as_it_has_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "_PATIENCE", 60.0)
        assert search.count_quickly(Search(q="even")) == (4, True)
        monkeypatch.setattr(search, "COUNT_LIMIT", 2)
        assert search.count_quickly(Search(q="even")) == (2, False)

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite counts within a moment")
    def test_what_takes_too_long_to_count_is_told_as_far_as_it_was(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(search, "_PATIENCE", 0.0)
        monkeypatch.setattr(search_index._PostgreSQL, "_SMALLEST", 1)
        monkeypatch.setattr(search_index._PostgreSQL, "_LARGEST", 1)
        record(AccessEvent.DENIED, why="even at last")
        counted, is_all = search.count_quickly(Search(q="even"))
        assert counted <= 5
        assert not is_all
        assert search.count_quickly(Search(q="eve*")) == (0, False)

    def test_counts_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert (search.count(Search(q="even")), search.count(Search(what="access.denied"))) == (4, 7)
        monkeypatch.setattr(search, "COUNT_LIMIT", 2)
        assert (search.count(Search(q="even")), search.count(Search())) == (3, 3)


class TestTheIndex:
    @pytest.mark.parametrize("most", [2, 2000])
    @pytest.mark.parametrize("smallest", [1, 3])
    def test_every_block_of_keys_is_looked_at_once(
        self, monkeypatch: pytest.MonkeyPatch, smallest: int, most: int
    ) -> None:
        """PostgreSQL walks a little way and then asks block by block; small ones here, so that there are many."""
        for name, value in {"_WALK": 2, "_MOST": most, "_SMALLEST": smallest, "_LARGEST": smallest + 4}.items():
            monkeypatch.setattr(search_index._PostgreSQL, name, value)
        events = [record(AccessEvent.DENIED, why="ancient" if n < 9 or n == 60 else "recent") for n in range(100)]
        expected = [event.pk for event in events if event.why == "ancient"]
        ancient = search.expression_of(Search(q="ancient"))
        bounds = {"above": 0, "below": 2**62}
        for limit in (1, 5, 9, 10, 11):
            assert search_index.newest(ancient, **bounds, limit=limit) == expected[::-1][:limit]
            assert search_index.oldest(ancient, **bounds, limit=limit) == expected[:limit]
            assert search_index.count(ancient, **bounds, limit=limit) == min(limit, 10)
        between = {"above": expected[1], "below": expected[8]}
        assert search_index.newest(ancient, **between, limit=20) == expected[2:8][::-1]
        assert search_index.oldest(ancient, **between, limit=20) == expected[2:8]
        assert search_index.count(ancient, **between, limit=20) == 6

    def test_an_event_can_be_taken_out_again(self) -> None:
        event = record(AccessEvent.DENIED, why="gone tomorrow", facts={"n": 4711})
        record(AccessEvent.DENIED, why="stays tomorrow")
        search_index.remove([AuditEvent.objects.get(pk=event.pk)])
        assert found(q="tomorrow") == ["stays tomorrow"]
        assert found(q="4711") == []

    def test_it_can_be_built_anew(self) -> None:
        record(AccessEvent.DENIED, why="kept")
        search_index.clear()
        assert found(q="kept") == []
        call_command("audit_reindex", stdout=StringIO())
        assert found(q="kept") == ["kept"]
        assert search_index.missing(above=0, below=2**62, limit=10) == []


class TestTheForm:
    def search(self, address: str) -> Search:
        form = SearchForm(QueryDict(address))
        assert form.is_valid(), form.errors
        return form.search()

    def test_an_address_reads_back_what_it_was_made_from(self) -> None:
        asked = Search(
            q="群发 & more", who="王 伟", what="access.denied", kind="user", outcome="refused", object="auth.user:1"
        )
        with_times = Search(request=uuid.uuid4(), why="x=y", since=NOON, until=NOON + timedelta(days=1))
        assert self.search(asked.address()) == asked
        assert self.search(with_times.address()) == with_times

    def test_a_day_is_the_whole_day_of_the_place(self) -> None:
        asked = self.search("since=2026-03-02&until=2026-03-02")
        assert asked.since == datetime(2026, 3, 1, 16, tzinfo=UTC)  # midnight in Shanghai
        assert asked.until == datetime(2026, 3, 2, 16, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("address", "field", "said"),
        [
            ("since=2026-02-30", "since", "is not a date"),
            ("until=yesterday", "until", "is not a date"),
            ("since=99999-01-01", "since", "is not a date"),
            ("until=9999-12-31", "until", "is not a date"),
            ("since=0001-01-01", "since", "is not a date"),
            ("until=9999-12-31T23:59:59-14:00", "until", "is not a date"),
            ("since=2026-03-02&until=2026-03-01", "until", "before the beginning"),
            ("what=nothing.known", "what", "no event called"),
            ("outcome=perhaps", "outcome", "not one of the available choices"),
            ("request=abc", "request", "not a request id"),
            ("colour=red", "__all__", "no field called “colour”"),
            (f"q={'x' * 501}", "q", "at most 500"),
        ],
    )
    def test_impossible_input_is_told_at_its_field(self, address: str, field: str, said: str) -> None:
        form = SearchForm(QueryDict(address))
        assert not form.is_valid()
        assert said in str(form.errors[field])

    @pytest.mark.parametrize("field", ["q", "who", "object", "why"])
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(st.sampled_from("a群 \x00\ud800\udc80\udfff"), max_size=20))
    def test_text_that_no_event_can_hold_is_a_search_too(self, field: str, text: str) -> None:
        form = SearchForm({field: text})
        assert form.is_valid(), form.errors
        search.page(form.search(), size=5)
        assert self.search(form.search().address()) == form.search()

    def test_a_nul_parts_words_as_it_does_in_what_was_recorded(self) -> None:
        record(AccessEvent.DENIED, why="rate\x00limit")
        assert [event.why for event in search.page(self.search("q=rate%00limit"), size=5).events] == ["rate\ufffdlimit"]


class TestThePage:
    @pytest.fixture
    def audrey(self) -> Client:
        client = Client()
        client.force_login(people.person("audrey", roles.AUDITOR))
        return client

    def html(self, client: Client, address: str = "") -> str:
        response = client.get(f"{reverse('admin:audit_auditevent_changelist')}?{address}")
        assert response.status_code == 200
        return response.content.decode()

    def test_shows_what_the_address_asks_for(self, audrey: Client) -> None:
        record(AccessEvent.DENIED, why="wanted 群发")
        record(AccessEvent.DENIED, why="other")
        html = self.html(audrey, "q=群发&what=access.denied")
        assert "wanted 群发" in html
        assert "other" not in html
        assert "1 event" in html

    def test_hostile_text_is_text(self, audrey: Client) -> None:
        record(AccessEvent.DENIED, why="<script>alert(1)</script>\u202eevil")
        html = self.html(audrey, "q=alert")
        assert "&lt;script&gt;" in html
        assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;\u202eevil</bdi>" in html
        assert "<script>alert" not in html

    @pytest.mark.parametrize("address", ["before=1", "after=0", "before=abc", "before=" + "9" * 40, "since=2026-02-30"])
    def test_any_address_is_a_page(self, audrey: Client, address: str) -> None:
        self.html(audrey, address)

    def test_a_wrong_date_is_told_where_it_stands(self, audrey: Client) -> None:
        assert "“2026-02-30” is not a date" in self.html(audrey, "since=2026-02-30")

    def test_pages_are_joined_by_links_that_keep_the_search(self, audrey: Client) -> None:
        for _ in range(51):
            record(AccessEvent.DENIED, why="many")
        html = self.html(audrey, "q=many")
        assert "?q=many&amp;before=" in html
        assert "10,000+" not in html

    def test_costs_the_same_however_many_events_there_are(
        self, audrey: Client, django_assert_max_num_queries: Callable[[int], Any]
    ) -> None:
        for _ in range(60):
            record(AccessEvent.DENIED, why="many")
        self.html(audrey)
        with django_assert_max_num_queries(14):
            self.html(audrey, "q=many")

    def test_is_for_those_who_may_look(self) -> None:
        client = Client()
        client.force_login(people.nora())
        assert client.get(reverse("admin:audit_auditevent_changelist")).status_code == 403

    def test_an_event_shows_what_was_changed_until_it_is_erased(self, audrey: Client) -> None:
        alice = people.alice()
        with context.acting(alice):
            alice.email = "alice@corp.example"
            alice.save()
        event = AuditEvent.objects.filter(what="object.changed", target_type="auth.user").latest("pk")
        url = reverse("admin:audit_auditevent_change", args=[event.pk])
        assert "alice@corp.example" in audrey.get(url).content.decode()
        connection.cursor().execute("DELETE FROM audit_auditpayload")
        html = audrey.get(url).content.decode()
        assert "alice@corp.example" not in html
        assert "Erased." in html
