"""The application world: tokens, limits that drop in silence, repetitions, recall, cards and their buttons."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from compliance_bot.sandbox import Sandbox, start

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


class Now:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def sandbox(tmp_path: Path, now: Now) -> Any:
    running = start(0, tmp_path, clock=now)
    yield running
    running.stop()


def token(sandbox: Sandbox, kind: str = "right") -> dict[str, Any]:
    query = {"corpid": "ww1234", "corpsecret": f"{kind}-secret"}
    return dict(requests.get(f"{sandbox.url}/cgi-bin/gettoken", query, timeout=10).json())


def call(sandbox: Sandbox, path: str, body: dict[str, Any], access: str | None = None) -> dict[str, Any]:
    given = token(sandbox)["access_token"] if access is None else access
    url = f"{sandbox.url}/cgi-bin/{path}?access_token={given}"
    return dict(requests.post(url, json=body, timeout=10).json())


def text(to: str = "amy", content: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"touser": to, "agentid": 1, "msgtype": "text", "text": {"content": content}, **more}


def test_a_wrong_secret_gets_no_token(sandbox: Sandbox) -> None:
    assert token(sandbox, "wrong")["errcode"] == 40001


def test_tokens_end(sandbox: Sandbox, now: Now) -> None:
    access = token(sandbox)["access_token"]
    assert call(sandbox, "message/send", text(), access)["errcode"] == 0
    now.at += 7200
    assert call(sandbox, "message/send", text(), access)["errcode"] == 42001
    assert call(sandbox, "message/send", text(), "nonsense")["errcode"] == 40014
    assert call(sandbox, "message/send", text(), "")["errcode"] == 41001


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (text("|".join(f"u{n}" for n in range(1001))), 40031),
        (text("", toparty="|".join(str(n) for n in range(101))), 82002),
        (text("", totag="|".join(str(n) for n in range(101))), 82003),
        (text(""), 40008),
        (text("gone1|unlicensed2"), 81013),
        (text(agentid="1"), 301002),
        (text(msgtype="telepathy"), 40008),
        ({**text(), "msgtype": "markdown", "markdown": {"content": "x" * 2049}}, 40058),
    ],
    ids=str,
)
def test_refuses_what_the_real_one_refuses(sandbox: Sandbox, body: dict[str, Any], errcode: int) -> None:
    assert call(sandbox, "message/send", body)["errcode"] == errcode
    assert sandbox.company.messages() == []


def test_names_whom_it_did_not_reach_in_small_letters(sandbox: Sandbox) -> None:
    said = call(sandbox, "message/send", text("Amy|GoneBob|UnlicensedCem"))
    assert (said["invaliduser"], said["unlicenseduser"]) == ("gonebob", "unlicensedcem")
    assert sandbox.company.messages()[0].shown_to == ("amy",)


def test_cuts_long_text_in_silence(sandbox: Sandbox) -> None:
    assert call(sandbox, "message/send", text(content="字" * 1000))["errcode"] == 0
    assert len(sandbox.company.messages()[0].content.encode()) <= 2048


def test_drops_in_silence_what_is_too_much_for_a_member(sandbox: Sandbox, now: Now) -> None:
    access = token(sandbox)["access_token"]
    for number in range(31):
        assert call(sandbox, "message/send", text(content=f"{number}"), access)["errcode"] == 0
    assert sum(bool(message.shown_to) for message in sandbox.company.messages()) == 30
    now.at += 60
    call(sandbox, "message/send", text(content="later"), access)
    assert sandbox.company.messages()[-1].shown_to == ("amy",)


def test_shows_the_same_json_once_within_its_interval(sandbox: Sandbox, now: Now) -> None:
    access = token(sandbox)["access_token"]
    body = text(enable_duplicate_check=1, duplicate_check_interval=1800)
    for seconds in (0, 1799, 2):
        now.at += seconds
        assert call(sandbox, "message/send", body, access)["errcode"] == 0
    assert [bool(message.shown_to) for message in sandbox.company.messages()] == [True, False, True]


def test_takes_a_message_back_within_a_day(sandbox: Sandbox, now: Now) -> None:
    msgid = call(sandbox, "message/send", text())["msgid"]
    assert call(sandbox, "message/recall", {"msgid": msgid})["errcode"] == 0
    assert sandbox.company.messages()[0].recalled
    now.at += 24 * 3600 + 1
    assert call(sandbox, "message/recall", {"msgid": msgid})["errcode"] == 301058


def test_what_it_sends_is_on_the_page(sandbox: Sandbox) -> None:
    call(sandbox, "message/send", text("amy|bob"))
    (shown,) = requests.get(f"{sandbox.url}/messages.json", timeout=10).json()
    assert (shown["key"], shown["content"], shown["mentioned"]) == ("app-1", "Hello", ["amy", "bob"])


class TestButtons:
    def card(self, sandbox: Sandbox) -> str:
        card = {
            "card_type": "button_interaction",
            "main_title": {"title": "Decide"},
            "task_id": "task-1",
            "card_action": {"type": 1, "url": "https://corp.example"},
            "button_list": [
                {"text": "Approve", "key": "approve"},
                {"text": "Look", "type": 1, "url": "https://corp.example"},
            ],
        }
        said = call(
            sandbox,
            "message/send",
            {"touser": "amy", "agentid": 1, "msgtype": "template_card", "template_card": card},
        )
        assert said["response_code"]
        return str(said["msgid"])

    def press(self, sandbox: Sandbox, **changes: str) -> requests.Response:
        body = {"msgid": self.card(sandbox), "user": "amy", "key": "approve", **changes}
        return requests.post(f"{sandbox.url}/click", json=body, timeout=10)

    def test_are_shown_where_they_call_back(self, sandbox: Sandbox) -> None:
        self.card(sandbox)
        (shown,) = requests.get(f"{sandbox.url}/messages.json", timeout=10).json()
        assert shown["buttons"] == [["approve", "Approve"]]

    @pytest.mark.parametrize("changes", [{"user": "bob"}, {"key": "deny"}, {"msgid": "x"}, {}], ids=str)
    def test_press_nothing_where_there_is_none_or_nobody_to_tell(
        self, sandbox: Sandbox, changes: dict[str, str]
    ) -> None:
        answer = self.press(sandbox, **changes)
        assert answer.status_code == 400
        assert answer.json()["error"]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"url": "https://elsewhere.example/cb", "token": "t", "aes_key": KEY, "receive_id": "ww"},
            {"url": "file:///etc/passwd", "token": "t", "aes_key": KEY, "receive_id": "ww"},
            {"url": "http://127.0.0.1:1/cb", "token": "t", "aes_key": "short", "receive_id": "ww"},
        ],
        ids=str,
    )
    def test_tell_only_this_computer(self, sandbox: Sandbox, body: dict[str, str]) -> None:
        assert requests.post(f"{sandbox.url}/callback", json=body, timeout=10).status_code == 400

    def test_of_nobody_who_answers_say_so(self, sandbox: Sandbox) -> None:
        where = {"url": "http://127.0.0.1:9/cb", "token": "t", "aes_key": KEY, "receive_id": "ww"}
        assert requests.post(f"{sandbox.url}/callback", json=where, timeout=10).ok
        assert self.press(sandbox).status_code == 502

    def test_are_not_pressed_by_a_foreign_page(self, sandbox: Sandbox) -> None:
        body = json.dumps({"msgid": self.card(sandbox), "user": "amy", "key": "approve"})
        answer = requests.post(f"{sandbox.url}/click", body, headers={"Content-Type": "text/plain"}, timeout=10)
        assert answer.status_code == 415
