"""The WeCom group robot: what it sends, how it reads errcodes, and that its key stays where it is."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from compliance_bot.guardrails.http import GuardedSession, OutboundError, Reply
from compliance_bot.sandbox import Sandbox
from tests.channels import contract
from tests.channels.contract import every_text_of
from tests.guardrails import Answer, Site, website
from workflows.channels import DeliveryError, OutcomeUnknown, Receipt, Rejected, TryLater, registry
from workflows.channels.wecom_robot import RobotForm
from workflows.domain.content import Attached, Content, Entry, Part
from workflows.domain.errors import Invalid
from workflows.domain.wecom_errcodes import ErrorClass, lookup

KEY = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"
PATH = "/cgi-bin/webhook/send"
ROBOT = registry.get("wecom_robot")
LIMIT = 4096  # bytes; written out, so that a slip in the adapter shows

# As WeCom words it, with everything that must not be kept.
ERRMSG = (
    f"invalid webhook url key={KEY}, hint: [1732345678_17_0a1b2c], from ip: 203.0.113.7, "
    "more info at https://open.work.weixin.qq.com/devtool/query?e=93000"
)


def send(answer: Answer, *, text: str = "**T**", key: str = KEY) -> tuple[Site, Receipt]:
    with website({PATH: answer}) as site, GuardedSession(allow=[site.address]) as session:
        part = Part(number=1, of=1, text=text)
        config = {"base_url": site.url("")}
        return site, contract.send(ROBOT, part, config=config, secrets={"key": key}, http=session)


def says(errcode: Any, errmsg: Any = "x") -> Answer:
    return Answer(body=json.dumps({"errcode": errcode, "errmsg": errmsg}).encode())


def refusal(answer: Answer, *, key: str = KEY) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send(answer, key=key)
    return caught.value


def test_markdown_is_posted_to_the_robots_address_as_utf8() -> None:
    site, receipt = send(says(0, "ok"), text='**公告**\n\n> "引用" 🔔')
    (seen,) = site.seen
    assert (seen.method, seen.path) == ("POST", f"{PATH}?key={KEY}")
    assert seen.headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(seen.body) == {
        "msgtype": "markdown",
        "markdown": {"content": '**公告**\n\n> "引用" 🔔'},
    }
    assert "公告".encode() in seen.body  # WeCom refuses \u escapes (40033)
    assert receipt == Receipt(reference="", reply="errcode 0 ok")


def test_a_key_with_a_line_break_behind_it_is_taken_without_it() -> None:
    site, _ = send(says(0), key=f" {KEY}\n")
    assert site.seen[0].path == f"{PATH}?key={KEY}"


@pytest.mark.parametrize("key", [f"https://qyapi.weixin.qq.com{PATH}?key={KEY}", f"{KEY}&x=1", "密钥", f"{KEY}\ud800"])
def test_what_is_no_key_is_refused_before_anything_is_sent_and_not_quoted(key: str) -> None:
    error = refusal(says(0), key=key)
    assert (type(error), error.code) == (Rejected, "bad_key")
    assert isinstance(error, Rejected)
    assert error.channel_broken
    assert key not in every_text_of(error)
    assert KEY not in every_text_of(error)


@pytest.mark.parametrize(
    ("errcode", "raises", "broken"),
    [
        (-1, TryLater, None),
        (6000, TryLater, None),
        (45009, TryLater, None),
        (45033, TryLater, None),
        (40001, Rejected, True),
        (42001, Rejected, True),
        (60020, Rejected, True),
        (93000, Rejected, True),
        (93004, Rejected, True),
        (93008, Rejected, True),
        (40058, Rejected, False),
        (85002, Rejected, False),
        (1234567, Rejected, False),
        (-2, Rejected, False),
        (2**31 - 1, Rejected, False),
    ],
)
def test_the_errcode_alone_decides(errcode: int, raises: type[DeliveryError], broken: object) -> None:
    error = refusal(says(errcode, "ok"))
    assert (type(error), error.code) == (raises, str(errcode))
    assert getattr(error, "channel_broken", None) is broken
    assert f"(errcode {errcode})" in str(error)


@pytest.mark.parametrize("errcode", [2**31, -(2**31) - 1, 10**4000])
def test_a_number_that_no_errcode_can_be_is_not_believed(errcode: int) -> None:
    assert type(refusal(says(errcode))) is OutcomeUnknown


@pytest.mark.parametrize(("errcode", "seconds"), [(45009, 60), (45033, 60), (45036, 60), (-1, None)])
def test_a_limit_is_waited_out_and_a_busy_system_is_left_to_the_usual_delays(
    errcode: int, seconds: float | None
) -> None:
    error = refusal(says(errcode))
    assert isinstance(error, TryLater)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({}, 60),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": " 0 "}, 0),
        ({"Retry-After": "86400"}, 3600),
        ({"Retry-After": "-5"}, 60),
        ({"Retry-After": "1e9"}, 60),
        ({"Retry-After": "nan"}, 60),
        ({"Retry-After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 60),
    ],
)
def test_http_429_says_when_to_come_back_or_counts_as_a_minute(header: dict[str, str], seconds: float) -> None:
    error = refusal(Answer(status=429, headers=header))
    assert isinstance(error, TryLater)
    assert error.retry_after == seconds


@pytest.mark.parametrize("errcode", [93000, 40058, 45009, -1, 1234567, 0])
def test_what_wecom_says_is_kept_without_key_trace_and_address(errcode: int) -> None:
    if errcode:
        shown = every_text_of(refusal(says(errcode, ERRMSG)))
        assert "invalid webhook url" in shown
    else:
        shown = repr(send(says(0, ERRMSG))[1])
    for secret in (KEY, KEY.upper(), "203.0.113.7", "1732345678"):
        assert secret not in shown


@pytest.mark.parametrize(
    "errmsg",
    [
        KEY,
        f"robot {KEY.upper()} is gone",
        f"{{'k': '{KEY}'}}",
        f"key%3D{KEY}",
        {"key": KEY},
        [KEY],
        f"\ud800 {KEY}",
    ],
)
def test_the_key_is_masked_however_wecom_repeats_it(errmsg: Any) -> None:
    shown = every_text_of(refusal(says(93000, errmsg)))
    assert KEY.lower() not in shown.lower()


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::1:2", "fe80::1:2:3"])
def test_an_address_is_masked_wherever_it_stands(address: str) -> None:
    assert address not in str(refusal(says(60020, f"{address} not allowed to access")))


def test_a_long_errmsg_is_cut() -> None:
    assert len(str(refusal(says(93000, "字" * 9000))).encode()) < 500


@pytest.mark.parametrize("answer", [says(93000), Answer(status=404), Answer(body=b"{"), Answer(status=502)])
def test_nothing_is_chained_to_a_failure(answer: Answer) -> None:
    error = refusal(answer)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("written", [True, False])
def test_not_even_the_transports_own_error_is_chained(written: object) -> None:
    class Telltale(GuardedSession):
        def post_json(self, url: str, *_: Any, **__: Any) -> Reply:
            raise OutboundError("reset", f"{url} broke off.", request_written=bool(written)) from OSError(url)

    part = Part(number=1, of=1, text="x")
    config = {"base_url": "https://example.com"}
    with Telltale() as session, pytest.raises(DeliveryError) as caught:
        contract.send(ROBOT, part, config=config, secrets={"key": KEY}, http=session)
    assert type(caught.value) is (OutcomeUnknown if written else TryLater)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert KEY not in every_text_of(caught.value)


def render(*blocks: str, title: str = "T") -> list[str]:
    return [part.text for part in ROBOT.render(Content(title=title, blocks=blocks), {})]


def test_the_title_is_bold_and_on_one_line() -> None:
    assert render("one", "two", title="Weekly\n digest") == ["**Weekly digest**\n\none\n\ntwo"]


def test_without_a_title_the_blocks_stand_alone() -> None:
    assert render("one", title=" ") == ["one"]


@pytest.mark.parametrize("character", ["x", "é", "字", "🔔"])
@pytest.mark.parametrize("spare", range(4))
def test_a_message_fills_4096_bytes_and_not_one_more(character: str, spare: int) -> None:
    room = LIMIT - len("**T**\n\n") - spare
    width = len(character.encode())
    block = character * (room // width) + "." * (room % width)
    (text,) = render(block)
    assert len(text.encode()) == LIMIT - spare
    over = render(block + "." * (spare + 1))
    assert len(over) == 2
    assert max(len(text.encode()) for text in over) <= LIMIT


def test_a_long_chinese_text_keeps_every_character_and_every_part_fits() -> None:
    blocks = [f"{n}。" + "监管要求" * 300 for n in range(12)]
    texts = render(*blocks, title="合规周报")
    assert all(len(text.encode()) <= LIMIT for text in texts)
    assert all(text.startswith(f"**合规周报** ({n}/{len(texts)})") for n, text in enumerate(texts, 1))
    bodies = [text.split("\n\n", 1)[1] for text in texts]
    assert "".join("".join(bodies).split()) == "".join(blocks)


def test_an_endless_title_leaves_room_for_text() -> None:
    texts = render("正文", title="题" * 5000)
    assert all(len(text.encode()) <= LIMIT for text in texts)
    assert any("正文" in text for text in texts)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://qyapi.weixin.qq.com", "https://qyapi.weixin.qq.com"),
        ("https://qyapi.weixin.qq.com/", "https://qyapi.weixin.qq.com"),
        ("qyapi.weixin.qq.com", "https://qyapi.weixin.qq.com"),
        ("https://proxy.example.com:8443", "https://proxy.example.com:8443"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("http://localhost:8001", "http://localhost:8001"),
    ],
)
def test_an_address_of_scheme_and_host_is_taken(given: str, kept: str) -> None:
    form = RobotForm({"base_url": given})
    assert form.is_valid(), form.errors
    assert form.cleaned_data["base_url"] == kept


@pytest.mark.parametrize(
    "given",
    [
        "",
        "http://qyapi.weixin.qq.com",
        "http://10.0.0.1",
        "http://127.0.0.1.example.com",
        "ftp://qyapi.weixin.qq.com",
        f"https://qyapi.weixin.qq.com{PATH}?key={KEY}",
        "https://qyapi.weixin.qq.com/cgi-bin",
        "https://qyapi.weixin.qq.com?key=1",
        "https://qyapi.weixin.qq.com?",
        "https://qyapi.weixin.qq.com#",
        "https://user:password@qyapi.weixin.qq.com",
        "https://@qyapi.weixin.qq.com",
        "https://qyapi.weixin.qq.com//",
    ],
)
def test_any_other_address_is_refused(given: str) -> None:
    assert not RobotForm({"base_url": given}).is_valid()


# The table of errcodes

IN_THE_FACT_SHEET = (
    "-1 6000 40001 40013 41004 40014 42001 41001 45009 45033 45036 40007 40008 40031 40032 40033 40035 40056"
    " 40058 40063 44001 44004 45001 45002 45007 45008 45031 48002 48006 50001 50002 50003 60011 60021 60020"
    " 81013 82001 82002 82003 85002 93000 93004 93008 301002"
)


@pytest.mark.parametrize("code", [int(code) for code in IN_THE_FACT_SHEET.split()])
def test_every_known_code_has_a_plain_sentence_with_a_remedy(code: int) -> None:
    known = lookup(code)
    assert "does not know" not in known.meaning
    assert re.fullmatch(rf"WeCom: [^A-Z].{{8,}}: .{{8,}} \(errcode {code}\)\.", known.sentence)


def test_an_unknown_code_is_a_refusal_for_good_and_shown() -> None:
    assert lookup(777).error_class is ErrorClass.PERMANENT
    assert "(errcode 777)" in lookup(777).sentence


def test_the_removed_robot_is_explained_as_people_need_it() -> None:
    assert lookup(93000).sentence == (
        "WeCom: the webhook is not valid or the robot was removed: create a new robot and store its key"
        " (errcode 93000)."
    )


def deliver(wecom: Sandbox, part: Part, config: Mapping[str, Any], attachment: bytes = b"") -> None:
    with GuardedSession(allow=[wecom.url.removeprefix("http://")]) as http:
        contract.send(ROBOT, part, config=config, secrets={"key": KEY}, http=http, attachment=attachment)


class TestForms:
    ENTRIES = tuple(Entry(title=f"新闻 {n}", url=f"https://news.example/{n}", summary="要点") for n in range(10))
    CONTENT = Content(title="公告", blocks=("**Hi** [site](https://a.example) <@bob>",), entries=ENTRIES)

    def test_plain_text_has_no_markup_but_mentions(self) -> None:
        (part,) = ROBOT.render(self.CONTENT, {"form": "text", "mentions": "@all, amy"})
        assert part.form == "text"
        assert part.text == "公告\n\nHi site https://a.example <@bob>\n\n<@all> <@amy>"

    def test_news_carry_eight_articles_each(self) -> None:
        parts = ROBOT.render(self.CONTENT, {"form": "news"})
        articles = [json.loads(part.text)["news"]["articles"] for part in parts]
        assert [len(some) for some in articles] == [8, 2]
        assert articles[0][0] == {"title": "新闻 0", "description": "要点", "url": "https://news.example/0"}

    def test_a_card_leads_to_the_first_and_lists_three_more(self) -> None:
        (part,) = ROBOT.render(self.CONTENT, {"form": "card"})
        card = json.loads(part.text)["template_card"]
        assert card["card_action"] == {"type": 1, "url": "https://news.example/0"}
        assert [jump["title"] for jump in card["jump_list"]] == ["新闻 1", "新闻 2", "新闻 3"]

    @pytest.mark.parametrize("form", ["news", "card"])
    def test_what_has_no_links_is_markdown(self, form: str) -> None:
        (part,) = ROBOT.render(Content(title="T", blocks=("words",)), {"form": form})
        assert (part.form, part.text) == ("markdown", "**T**\n\nwords")

    @pytest.mark.parametrize("form", ["markdown", "markdown_v2", "text", "news", "card"])
    def test_the_group_takes_every_form(self, wecom: Sandbox, form: str) -> None:
        config = {"base_url": wecom.url, "form": form, "mentions": "@all" if form == "text" else ""}
        for part in ROBOT.render(self.CONTENT, config):
            deliver(wecom, part, config)
        kinds = {message.msgtype for message in wecom.wecom.messages()}
        assert kinds == {{"card": "template_card"}.get(form, form)}
        assert form != "text" or wecom.wecom.messages()[0].mentioned == ("@all",)

    @pytest.mark.parametrize(
        ("mentions", "form", "why"),
        [
            ("@all", "markdown", "Only plain text can mention everybody"),
            ("amy", "news", "cannot mention anybody"),
            ("a b<c", "text", "not a user id"),
        ],
    )
    def test_mentions_that_would_not_work_are_refused(self, mentions: str, form: str, why: str) -> None:
        found = RobotForm({"base_url": "https://qyapi.weixin.qq.com", "form": form, "mentions": mentions})
        assert why in str(found.errors["mentions"])


class TestFiles:
    @pytest.mark.parametrize(
        ("name", "media_type", "content", "arrives"),
        [
            ("seal.png", "image/png", b"\x89PNG and so on", "image"),
            ("rules.pdf", "application/pdf", b"%PDF-1.7 rules", "file"),
            ("note.amr", "audio/amr", b"#!AMR voice", "voice"),
        ],
    )
    def test_arrive_as_what_they_are(
        self, wecom: Sandbox, name: str, media_type: str, content: bytes, arrives: str
    ) -> None:
        file = Attached(name=name, media_type=media_type, size=len(content), sha256="0" * 64)
        config = {"base_url": wecom.url}
        words, part = ROBOT.render(Content(title="T", blocks=("see",), attachments=(file,)), config)
        assert (words.of, part.number, part.form) == (2, 2, "file")
        deliver(wecom, part, config, content)
        (message,) = wecom.wecom.messages()
        assert message.msgtype == arrives
        assert arrives == "image" or name in message.content

    def test_over_the_limit_are_refused_before_anything_is_sent(self) -> None:
        file = Attached(name="big.png", media_type="image/png", size=2 * 2**20 + 1, sha256="0" * 64)
        with pytest.raises(Invalid, match="only with 6 bytes to 2 MB") as refused:
            ROBOT.render(Content(title="T", blocks=("see",), attachments=(file,)), {})
        assert refused.value.field == "attachments"
