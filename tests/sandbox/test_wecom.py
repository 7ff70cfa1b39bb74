"""The WeCom world without a socket: what it takes, what it refuses, what it remembers."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compliance_bot.sandbox.wecom import Fault, World, read_faults

KEY = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"
PNG = b"\x89PNG\r\n\x1a\n and some pixels"


class Clock:
    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[World]:
    made = World(tmp_path, clock=clock)
    yield made
    made.close()


def post(world: World, msgtype: str, part: object, key: str = KEY) -> int:
    """The errcode of a send."""
    answer = world.send(key, json.dumps({"msgtype": msgtype, msgtype: part}).encode())
    return int(answer["errcode"])


def say(world: World, content: str = "hello", key: str = KEY) -> int:
    return post(world, "text", {"content": content}, key)


def test_an_accepted_message_is_answered_ok_and_kept_as_it_was(world: World, clock: Clock) -> None:
    body = json.dumps({"msgtype": "markdown", "markdown": {"content": "# 合规\n<b>x</b>"}}).encode()
    assert world.send(KEY, body) == {"errcode": 0, "errmsg": "ok"}
    [message] = world.messages()
    assert (message.n, message.key, message.at) == (1, KEY, clock.now)
    assert (message.msgtype, message.content) == ("markdown", "# 合规\n<b>x</b>")


@pytest.mark.parametrize(("msgtype", "limit"), [("text", 2048), ("markdown", 4096), ("markdown_v2", 4096)])
def test_the_limit_counts_utf8_bytes_to_the_byte(world: World, msgtype: str, limit: int) -> None:
    fits = "规" * (limit // 3) + "a" * (limit % 3)
    assert len(fits.encode()) == limit
    assert post(world, msgtype, {"content": fits}) == 0
    assert post(world, msgtype, {"content": fits + "a"}) == 40058
    assert post(world, msgtype, {"content": "规" * (limit // 3 + 1)}) == 40058
    assert [m.content for m in world.messages()] == [fits]


def test_too_long_says_exceed_max_length(world: World) -> None:
    answer = world.send(KEY, json.dumps({"msgtype": "text", "text": {"content": "a" * 2049}}).encode())
    assert "exceed max length" in answer["errmsg"]


@pytest.mark.parametrize("content", ["", "  \n\t", None])
def test_empty_content_is_refused(world: World, content: str | None) -> None:
    part = {} if content is None else {"content": content}
    assert post(world, "text", part) == 44004
    assert world.messages() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"msgtype":"video","video":{}}',
        b'{"msgtype":["text"]}',
        b'{"msgtype":"text","text":{"content":7}}',
        b'{"msgtype":"text","text":{"content":"\\ud800"}}',
        b'{"msgtype":"text","text":{"content":"x","mentioned_list":"@all"}}',
    ],
)
def test_a_body_that_makes_no_sense_is_a_bad_parameter(world: World, body: bytes) -> None:
    assert world.send(KEY, body)["errcode"] == 40008
    assert world.messages() == []


@pytest.mark.parametrize("key", ["", "short-7", "a" * 65, "with space", "unknown-group-1", "schlüssel-eins"])
def test_a_key_of_no_group_is_an_invalid_webhook_url(world: World, key: str) -> None:
    assert say(world, key=key) == 93000


@pytest.mark.parametrize("key", ["a" * 8, "a" * 64, "Not-unknown"])
def test_anything_that_looks_like_a_key_is_a_group(world: World, key: str) -> None:
    assert say(world, key=key) == 0


def test_the_twenty_first_message_of_a_minute_is_refused_until_the_first_is_a_minute_old(
    world: World, clock: Clock
) -> None:
    start = clock.now
    for second in range(20):
        clock.now = start + second
        assert say(world) == 0
    assert say(world) == 45009
    clock.now = start + 59.9
    assert say(world) == 45009
    clock.now = start + 60
    assert say(world) == 0
    assert say(world) == 45009, "the window slides: only one place was free"
    clock.now = start + 61
    assert say(world) == 0
    assert len(world.messages()) == 22


def test_each_key_has_its_own_window(world: World) -> None:
    assert [say(world) for _ in range(21)][-1] == 45009
    assert say(world, key="another-group") == 0


def test_refused_messages_take_no_place_in_the_window(world: World) -> None:
    assert {say(world, "") for _ in range(30)} == {44004}
    assert {say(world) for _ in range(20)} == {0}


def test_without_rate_limit_the_window_has_no_end(tmp_path: Path, clock: Clock) -> None:
    world = World(tmp_path, clock=clock, rate_limit=False)
    assert {say(world) for _ in range(100)} == {0}
    world.close()


def image(raw: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(raw).decode(), "md5": hashlib.md5(raw).hexdigest()}  # noqa: S324


ARTICLE = {"title": "Fine", "description": "of 3 million", "url": "https://example.com/1"}
CARD = {
    "card_type": "text_notice",
    "main_title": {"title": "Approve", "desc": "by noon"},
    "card_action": {"type": 1, "url": "https://example.com/"},
}


@pytest.mark.parametrize(
    ("msgtype", "part", "errcode"),
    [
        ("news", {"articles": [ARTICLE] * 8}, 0),
        ("news", {"articles": [ARTICLE] * 9}, 45008),
        ("news", {"articles": []}, 44004),
        ("news", {"articles": [{"title": "no url"}]}, 40008),
        ("news", {"articles": [ARTICLE | {"url": "javascript:alert(1)"}]}, 40008),
        ("image", image(PNG), 0),
        ("image", image(PNG) | {"md5": "0" * 32}, 40008),
        ("image", image(b"GIF89a"), 40008),
        ("image", image(PNG + bytes(2 * 1024 * 1024)), 40058),
        ("image", {"base64": "%%%", "md5": ""}, 40008),
        ("file", {"media_id": "3a8asd892asd8asd"}, 0),
        ("file", {}, 40007),
        ("template_card", CARD, 0),
        ("template_card", CARD | {"main_title": {}}, 44004),
        ("template_card", CARD | {"card_action": None}, 40008),
        ("template_card", CARD | {"card_type": "vote"}, 40008),
    ],
)
def test_other_message_types_get_a_basic_check(world: World, msgtype: str, part: dict[str, Any], errcode: int) -> None:
    assert post(world, msgtype, part) == errcode
    assert len(world.messages()) == (errcode == 0)


def test_news_are_shown_plainly(world: World) -> None:
    post(world, "news", {"articles": [ARTICLE, ARTICLE | {"description": ""}]})
    assert world.messages()[0].content == ("Fine\nof 3 million\nhttps://example.com/1\n\nFine\nhttps://example.com/1")


def test_mentioned_people_are_kept(world: World) -> None:
    post(world, "text", {"content": "x", "mentioned_list": ["li", "@all"], "mentioned_mobile_list": ["138"]})
    assert world.messages()[0].mentioned == ("li", "@all", "138")


def test_messages_can_be_asked_for_from_a_number_on(world: World) -> None:
    for content in "abcd":
        say(world, content)
    assert [m.content for m in world.messages(after=2)] == ["c", "d"]
    assert [m.content for m in world.messages(newest=3)] == ["b", "c", "d"]
    assert world.messages(after=4) == []
    assert world.messages(newest=0) == []


def test_messages_numbers_and_the_window_outlive_a_restart(tmp_path: Path, clock: Clock) -> None:
    first = World(tmp_path, clock=clock)
    for n in range(20):
        say(first, f"第{n}条")
    before = first.messages()
    first.close()
    second = World(tmp_path, clock=clock)
    assert second.messages() == before
    assert say(second) == 45009
    clock.now += 60
    assert say(second) == 0
    assert second.messages()[-1].n == 21
    second.close()


def test_a_message_is_in_the_file_before_it_is_answered(world: World, tmp_path: Path) -> None:
    say(world, "写入")
    assert json.loads((tmp_path / "wecom.jsonl").read_bytes())["content"] == "写入"


@pytest.mark.parametrize("torn", ['{"n": 3, "key": "', "规".encode()[:2].decode("latin-1"), "{}", "7"])
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, clock: Clock, torn: str) -> None:
    first = World(tmp_path, clock=clock)
    say(first, "one")
    say(first, "two")
    first.close()
    with (tmp_path / "wecom.jsonl").open("ab") as file:
        file.write(torn.encode("latin-1"))
    second = World(tmp_path, clock=clock)
    assert [m.content for m in second.messages()] == ["one", "two"]
    say(second, "three")
    second.close()
    third = World(tmp_path, clock=clock)
    assert [(m.n, m.content) for m in third.messages()] == [(1, "one"), (2, "two"), (3, "three")]
    third.close()


def test_a_restart_brings_back_the_newest_five_hundred(tmp_path: Path, clock: Clock) -> None:
    first = World(tmp_path, clock=clock, rate_limit=False)
    for _ in range(510):
        say(first)
    first.close()
    second = World(tmp_path, clock=clock)
    assert [m.n for m in second.messages()] == list(range(11, 511))
    second.close()


def test_only_this_account_may_read_the_messages(world: World, tmp_path: Path) -> None:
    assert (tmp_path / "wecom.jsonl").stat().st_mode & 0o077 == 0


def test_many_senders_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, rate_limit=False)

    def caller(name: int) -> None:
        for n in range(50):
            say(world, f"{name}-{n}")

    threads = [threading.Thread(target=caller, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    world.close()
    again = World(tmp_path)
    assert [m.n for m in again.messages()] == list(range(1, 401))
    assert len({m.content for m in again.messages()}) == 400
    again.close()


def test_under_a_burst_of_senders_twenty_pass_and_not_one_more(world: World) -> None:
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(say(world))) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (codes.count(0), codes.count(45009)) == (20, 20)


def test_faults_are_read_with_their_defaults() -> None:
    body = {"next": [{"kind": "errcode"}, {"kind": "status", "status": 503}, {"kind": "hang", "seconds": 0.5}]}
    assert read_faults(json.dumps(body).encode()) == [
        Fault("errcode", code=-1),
        Fault("status", status=503),
        Fault("hang", seconds=0.5),
    ]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("{", "the body must be"),
        ("[]", "the body must be"),
        ('{"next": {}}', "must be a list"),
        ('{"next": [{"kind": "flood"}]}', "a fault has a kind, one of: errcode"),
        ('{"next": [{"kind": "status", "status": 200}]}', "status must be a number from 400 to 599"),
        ('{"next": [{"kind": "hang", "seconds": "3"}]}', "seconds must be a number"),
        ('{"next": [{"kind": "hang", "seconds": NaN}]}', "seconds must be a number"),
        ('{"next": [{"kind": "reset_after", "seconds": 3}]}', "knows no seconds"),
    ],
)
def test_a_fault_that_does_not_exist_is_explained(body: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_faults(body.encode())
