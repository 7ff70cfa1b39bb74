"""The sandbox on a real socket."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import feedparser
import pytest
import requests

from compliance_bot.sandbox import PortTaken, Sandbox, start

KEY = "legal-team-group"
NOW = 1_790_000_000.0
ROOT = Path(__file__).resolve().parents[2]


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(tmp_path: Path, clock: Clock) -> Iterator[Sandbox]:
    running = start(0, tmp_path, clock=clock)
    yield running
    running.stop()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as made:
        made.trust_env = False
        yield made


def send(session: requests.Session, sandbox: Sandbox, content: str = "你好", **more: Any) -> requests.Response:
    body = {"msgtype": "text", "text": {"content": content}}
    address = f"{sandbox.url}/cgi-bin/webhook/send"
    return session.post(address, **{"params": {"key": KEY}, "json": body, "timeout": 20, **more})


def plan(session: requests.Session, sandbox: Sandbox, *faults: dict[str, Any]) -> None:
    answer = session.post(f"{sandbox.url}/faults", json={"next": faults}, timeout=20)
    assert answer.json() == {"planned": len(faults)}


def contents(sandbox: Sandbox) -> list[str]:
    return [message.content for message in sandbox.wecom.messages()]


# The WeCom world


def test_a_sent_message_can_be_read_back(session: requests.Session, sandbox: Sandbox) -> None:
    answer = send(session, sandbox)
    assert (answer.status_code, answer.json()) == (200, {"errcode": 0, "errmsg": "ok"})
    seen = session.get(f"{sandbox.url}/messages.json", params={"after": 0}, timeout=20)
    assert seen.json() == [
        {
            "n": 1,
            "key": KEY,
            "at": NOW,
            "msgtype": "text",
            "content": "你好",
            "mentioned": [],
            "msgid": "",
            "buttons": [],
        }
    ]
    assert seen.headers["X-Sandbox-Last"] == "1"
    assert session.get(f"{sandbox.url}/messages.json?after=1", timeout=20).json() == []


def test_the_page_can_ask_for_the_newest_only(session: requests.Session, sandbox: Sandbox) -> None:
    for content in "abc":
        send(session, sandbox, content)
    rows = session.get(f"{sandbox.url}/messages.json?after=0&newest=2", timeout=20).json()
    assert [row["content"] for row in rows] == ["b", "c"]
    assert session.get(f"{sandbox.url}/messages.json?after=-1", timeout=20).status_code == 400


@pytest.mark.parametrize("params", [{}, {"key": ""}, {"key": "unknown-group-7"}])
def test_a_wrong_key_is_an_api_error_with_status_200(
    session: requests.Session, sandbox: Sandbox, params: dict[str, str]
) -> None:
    answer = send(session, sandbox, params=params)
    assert (answer.status_code, answer.json()["errcode"]) == (200, 93000)


def test_the_21st_message_is_45009_with_status_200_and_free_after_the_window(
    session: requests.Session, sandbox: Sandbox, clock: Clock
) -> None:
    codes = [send(session, sandbox).json()["errcode"] for _ in range(20)]
    assert codes == [0] * 20
    answer = send(session, sandbox)
    assert (answer.status_code, answer.json()["errcode"]) == (200, 45009)
    clock.now += 60
    assert send(session, sandbox).json()["errcode"] == 0


def test_one_connection_carries_many_messages(sandbox: Sandbox) -> None:
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=20)
    connection.connect()
    opened = connection.sock
    for _ in range(3):
        connection.request("POST", f"/cgi-bin/webhook/send?key={KEY}", b"{}")
        assert connection.getresponse().read()
    assert connection.sock is opened
    connection.close()


def test_a_second_start_with_the_same_folder_shows_the_old_messages(
    session: requests.Session, sandbox: Sandbox, tmp_path: Path
) -> None:
    send(session, sandbox, "kept")
    sandbox.stop()
    again = start(0, tmp_path)
    assert contents(again) == ["kept"]
    again.stop()


# Faults


def test_an_errcode_fault_answers_the_code_and_stores_nothing(session: requests.Session, sandbox: Sandbox) -> None:
    plan(session, sandbox, {"kind": "errcode", "code": -1})
    assert send(session, sandbox).json() == {"errcode": -1, "errmsg": "system busy"}
    assert contents(sandbox) == []


def test_a_status_fault_answers_the_status_and_stores_nothing(session: requests.Session, sandbox: Sandbox) -> None:
    plan(session, sandbox, {"kind": "status", "status": 502})
    assert send(session, sandbox).status_code == 502
    assert contents(sandbox) == []


def test_reset_before_breaks_the_connection_and_stores_nothing(session: requests.Session, sandbox: Sandbox) -> None:
    plan(session, sandbox, {"kind": "reset_before"})
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        send(session, sandbox)
    assert contents(sandbox) == []


def test_reset_after_breaks_the_connection_though_the_message_arrived(
    session: requests.Session, sandbox: Sandbox
) -> None:
    plan(session, sandbox, {"kind": "reset_after"})
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        send(session, sandbox, "arrived")
    assert contents(sandbox) == ["arrived"]


def test_a_hang_stores_the_message_and_the_caller_runs_out_of_patience(
    session: requests.Session, sandbox: Sandbox
) -> None:
    plan(session, sandbox, {"kind": "hang", "seconds": 600})
    with pytest.raises(requests.ReadTimeout):
        send(session, sandbox, "arrived", timeout=0.2)
    assert contents(sandbox) == ["arrived"]


def test_a_hang_that_ends_answers_after_all(session: requests.Session, sandbox: Sandbox) -> None:
    plan(session, sandbox, {"kind": "hang", "seconds": 0.01})
    assert send(session, sandbox).json()["errcode"] == 0


def test_stopping_the_sandbox_ends_a_hang(
    session: requests.Session, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(session, sandbox, {"kind": "hang", "seconds": 600})
    ended: list[type[BaseException]] = []

    def caller() -> None:
        with pytest.raises(requests.ConnectionError) as caught:
            send(session, sandbox, "arrived", timeout=60)
        ended.append(caught.type)

    thread = threading.Thread(target=caller)
    stored, accept = threading.Event(), sandbox.wecom.send

    def noticed(key: str, body: bytes) -> dict[str, Any]:
        answer = accept(key, body)
        stored.set()
        return answer

    monkeypatch.setattr(sandbox.wecom, "send", noticed)
    thread.start()
    assert stored.wait(20)
    sandbox.stop()
    thread.join(20)
    assert ended == [requests.ConnectionError]


def test_faults_meet_the_next_sends_in_order_and_then_end(session: requests.Session, sandbox: Sandbox) -> None:
    plan(session, sandbox, {"kind": "errcode", "code": 45009}, {"kind": "status", "status": 500})
    first, second, third = (send(session, sandbox) for _ in range(3))
    assert first.json()["errcode"] == 45009
    assert second.status_code == 500
    assert third.json()["errcode"] == 0


def test_planning_no_faults_clears_the_plan(session: requests.Session, sandbox: Sandbox) -> None:
    plan(session, sandbox, {"kind": "status"})
    plan(session, sandbox)
    assert send(session, sandbox).json()["errcode"] == 0


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_foreign_page_cannot_plan_faults_with_a_form(
    session: requests.Session, sandbox: Sandbox, content_type: str | None
) -> None:
    body = b'{"next": [{"kind": "status"}]}'
    headers = {"Content-Type": content_type}
    answer = session.post(f"{sandbox.url}/faults", data=body, headers=headers, timeout=20)
    assert answer.status_code == 415
    assert send(session, sandbox).json()["errcode"] == 0


def test_an_unknown_fault_is_refused_with_a_sentence(session: requests.Session, sandbox: Sandbox) -> None:
    answer = session.post(f"{sandbox.url}/faults", json={"next": [{"kind": "flood"}]}, timeout=20)
    assert answer.status_code == 400
    assert "a fault has a kind" in answer.json()["error"]


# The door


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "127.0.0.2", "localhost@evil", ""])
def test_a_foreign_host_header_is_refused(session: requests.Session, sandbox: Sandbox, host: str) -> None:
    for path in ("/", "/messages.json", "/news/regulator.xml"):
        answer = session.get(sandbox.url + path, headers={"Host": host}, timeout=20)
        assert answer.status_code == 403
    assert send(session, sandbox, headers={"Host": host}).status_code == 403
    assert contents(sandbox) == []


@pytest.mark.parametrize("host", ["localhost", "localhost:8001", "127.0.0.1", "LOCALHOST:1"])
def test_the_names_of_this_computer_are_welcome(session: requests.Session, sandbox: Sandbox, host: str) -> None:
    assert session.get(sandbox.url, headers={"Host": host}, timeout=20).status_code == 200


def raw(sandbox: Sandbox, request: bytes) -> bytes:
    """What comes back, until the sandbox closes the connection, for bytes that no client would send."""
    host, port = sandbox.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: 50000000", b"413"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: many", b"400"),
        (b"Transfer-Encoding: chunked", b"411"),
    ],
)
def test_a_body_of_unknown_or_absurd_size_is_refused_and_the_connection_closed(
    sandbox: Sandbox, head: bytes, status: bytes
) -> None:
    request = b"POST /cgi-bin/webhook/send?key=12345678 HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n"
    assert raw(sandbox, request).startswith(b"HTTP/1.1 " + status)


def test_two_host_headers_are_refused(sandbox: Sandbox) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert raw(sandbox, request).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("path", ["/", "/page.js", "/messages.json", "/news/regulator.xml", "/nothing"])
def test_every_answer_carries_the_strict_headers(session: requests.Session, sandbox: Sandbox, path: str) -> None:
    headers = session.get(sandbox.url + path, timeout=20).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["/server.py", "/../server.py", "/%2e%2e/settings.py", "/page.html", "/icon.svg/"])
def test_nothing_but_the_pages_own_files_is_served(sandbox: Sandbox, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    assert raw(sandbox, request).startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("de-DE,zh-TW;q=0.5", "zh-CN"),
        ("de", "en"),
        ("", "en"),
    ],
)
def test_the_page_speaks_the_language_of_its_reader(
    session: requests.Session, sandbox: Sandbox, accepted: str, language: str
) -> None:
    page = session.get(sandbox.url, headers={"Accept-Language": accepted}, timeout=20)
    assert f'<html lang="{language}">' in page.text
    assert "nothing here leaves this computer" in page.text
    assert "这里的消息不会离开本机" in page.text


def test_the_page_links_back_to_the_product(session: requests.Session, tmp_path: Path) -> None:
    running = start(0, tmp_path, back='http://127.0.0.1:9000/?a="1"&b=2')
    page = session.get(running.url, timeout=20).text
    running.stop()
    assert 'href="http://127.0.0.1:9000/?a=&quot;1&quot;&amp;b=2"' in page


# The news world


@pytest.mark.parametrize("path", ["/news/regulator.xml", "/news/gazette.atom", "/news/briefing.json"])
def test_an_unchanged_feed_is_304_by_tag_and_by_date(
    session: requests.Session, sandbox: Sandbox, clock: Clock, path: str
) -> None:
    first = session.get(sandbox.url + path, timeout=20)
    tag, date = first.headers["ETag"], first.headers["Last-Modified"]
    assert first.status_code == 200

    def status(headers: dict[str, str]) -> tuple[int, bytes]:
        answer = session.get(sandbox.url + path, headers=headers, timeout=20)
        return answer.status_code, answer.content

    assert status({"If-None-Match": tag}) == (304, b"")
    assert status({"If-None-Match": f'"other", W/{tag}'}) == (304, b"")
    assert status({"If-Modified-Since": date}) == (304, b"")
    assert status({"If-None-Match": '"other"', "If-Modified-Since": date})[0] == 200, "the tag outranks the date"
    assert status({"If-Modified-Since": "yesterday"})[0] == 200
    clock.now += 18 * 60
    assert status({"If-None-Match": tag})[0] == 200
    assert status({"If-Modified-Since": date})[0] == 200


def test_a_feed_over_the_socket_parses_and_its_links_lead_to_pages(session: requests.Session, sandbox: Sandbox) -> None:
    answer = session.get(f"{sandbox.url}/news/regulator.xml", timeout=20)
    assert answer.headers["Content-Type"].startswith("application/rss+xml")
    parsed = feedparser.parse(answer.content)
    assert len(parsed.entries) == 20
    page = session.get(parsed.entries[0].link, timeout=20)
    assert page.status_code == 200
    assert parsed.entries[0].title in page.text
    assert session.get(f"{sandbox.url}/news/item/1-nowhere", timeout=20).status_code == 404


def test_head_answers_like_get_without_a_body(session: requests.Session, sandbox: Sandbox) -> None:
    url = f"{sandbox.url}/news/gazette.atom"
    head, full = session.head(url, timeout=20), session.get(url, timeout=20)
    assert head.headers["Content-Length"] == str(len(full.content))
    assert head.content == b""


# The process


def command(tmp_path: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "compliance_bot.sandbox", "--data", str(tmp_path / "data"), *arguments]


def launch(tmp_path: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        command(tmp_path, "--port", "0"), cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("sandbox on http://127.0.0.1:")
    return process, line.removeprefix("sandbox on ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly_with_a_connection_open(
    session: requests.Session, tmp_path: Path, number: signal.Signals
) -> None:
    process, url = launch(tmp_path)
    assert session.get(url, timeout=20).status_code == 200
    process.send_signal(number)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


def test_an_answered_message_outlives_a_kill(session: requests.Session, tmp_path: Path) -> None:
    process, url = launch(tmp_path)
    body = {"msgtype": "text", "text": {"content": "before the kill"}}
    answer = session.post(f"{url}/cgi-bin/webhook/send?key={KEY}", json=body, timeout=20)
    assert answer.json()["errcode"] == 0
    process.kill()
    process.communicate(timeout=20)
    again = start(0, tmp_path / "data")
    assert contents(again) == ["before the kill"]
    again.stop()


def test_a_taken_port_is_one_clear_line_with_a_remedy(sandbox: Sandbox, tmp_path: Path) -> None:
    port = sandbox.url.rsplit(":", 1)[1]
    done = subprocess.run(
        command(tmp_path, "--port", port), cwd=ROOT, text=True, capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert f"Port {port} on 127.0.0.1 cannot be used" in line
    assert "choose another port with --port" in line


def test_a_taken_port_is_its_own_exception_in_a_test(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(PortTaken):
        start(int(sandbox.url.rsplit(":", 1)[1]), tmp_path / "other")


def test_there_is_no_way_to_bind_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--host", "0.0.0.0"),  # noqa: S104
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2
    assert "unrecognized arguments: --host" in done.stderr


def test_the_sandbox_needs_the_standard_library_only_and_nothing_of_ours() -> None:
    code = "import json, sys, compliance_bot.sandbox; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(  # -S: without the folder of installed packages
        [sys.executable, "-S", "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=20, check=True
    )
    ours = {name for name in json.loads(done.stdout) if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name for name in ours if not name.startswith(("compliance_bot.sandbox", "__"))} == {"compliance_bot"}
