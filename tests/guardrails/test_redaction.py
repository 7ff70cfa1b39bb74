"""What is masked, what is left alone, that neither takes long, and that no log record escapes."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from compliance_bot.guardrails import redaction
from compliance_bot.guardrails.redaction import redact
from tests.guardrails import Answer, website

KEY = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"
ROBOT = f"https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={KEY}"
PEM = f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{KEY}+/=\nAAA\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N"
NAMES = ["key", "access_token", "corpsecret", "secret", "token", "password", "api_key"]

EXACT = {
    ROBOT: "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=[redacted]",
    f"{ROBOT}&debug=1#top": "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=[redacted]&debug=1#top",
    f'"POST /cgi-bin/webhook/send?key={KEY} HTTP/1.1" 200': (
        '"POST /cgi-bin/webhook/send?key=[redacted] HTTP/1.1" 200'
    ),
    f"next={quote(ROBOT, safe='')}": (
        "next=https%3A%2F%2Fqyapi.weixin.qq.com%2Fcgi-bin%2Fwebhook%2Fsend%3Fkey%3D[redacted]"
    ),
    f"called {ROBOT}, then (token={KEY}).": (
        "called https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=[redacted], then (token=[redacted])."
    ),
    f'{{"key": "{KEY}", "msgtype": "text"}}': '{"key": "[redacted]", "msgtype": "text"}',
    f"{{'password': 'it\\'s {KEY}', 'a': 'b'}}": "{'password': '[redacted]', 'a': 'b'}",
    f"Robot(key='{KEY}', name='x')": "Robot(key='[redacted]', name='x')",
    f"<QueryDict: {{'password': ['{KEY}'], 'next': ['/']}}>": (
        "<QueryDict: {'password': ['[redacted]'], 'next': ['/']}>"
    ),
    f"Authorization: Bearer {KEY}\r\nHost: a": "Authorization: [redacted]\r\nHost: a",
    f"b'Authorization: Basic {KEY}\\r\\nHost: a'": "b'Authorization: [redacted]\\r\\nHost: a'",
    f"{{'Authorization': 'Digest username=\"u\", response=\"{KEY}\"', 'Host': 'a'}}": (
        "{'Authorization': '[redacted]', 'Host': 'a'}"
    ),
    f"Cookie: theme=dark; sessionid={KEY}\nHost: a": "Cookie: [redacted]\nHost: a",
    f"Set-Cookie: sessionid={KEY}; HttpOnly\r\nX: y": "Set-Cookie: [redacted]\r\nX: y",
    f"[('Set-Cookie', 'sessionid={KEY}; Path=/'), ('X', 'y')]": "[('Set-Cookie', '[redacted]'), ('X', 'y')]",
    f"X-Api-Key: {KEY}\r\nHost: a": "X-Api-Key: [redacted]\r\nHost: a",
    f"sent with Bearer {KEY} to a": "sent with Bearer [redacted] to a",
    f"postgres://bot:{KEY}@db:5432/bot": "postgres://[redacted]@db:5432/bot",
    f"https://{KEY}@github.com/a, https://u:p@{KEY}@h/": "https://[redacted]@github.com/a, https://[redacted]@h/",
    "id AKIAIOSFODNN7EXAMPLE, ASIAIOSFODNN7EXAMPLE": "id [redacted], [redacted]",
    f"jwt {JWT}.": "jwt [redacted]",
    f"{PEM}\nnext": "[redacted]\nnext",
    json.dumps({"pem": PEM}): '{"pem": "[redacted]"}',
    PEM[:60]: "[redacted]",
    "password: hunter2": "password: [redacted]",
    f"密钥key={KEY}": "密钥key=[redacted]",
}


@pytest.mark.parametrize("text", EXACT)
def test_a_secret_is_masked_and_nothing_around_it(text: str) -> None:
    assert redact(text) == EXACT[text]


def shapes(name: str) -> Iterator[str]:
    """A secret under this name, in every shape that text on its way to a log has."""
    body = {name: KEY, "other": "kept"}
    yield f"https://h/p?a=kept&{name}={KEY}&b=kept"
    yield f"{name}={KEY}"
    yield f"{name.upper()} = {KEY} kept"
    yield f"kept&amp;{name}={KEY}"
    yield f"kept\\u0026{name}={KEY}"
    yield f"b'POST kept\\r\\n\\r\\n{name}={KEY}'"
    yield json.dumps(body)
    yield json.dumps(body, indent=2)
    yield json.dumps(json.dumps(body))
    yield json.dumps(json.dumps({name: f'"\\{KEY}', "other": "kept"}))
    yield json.dumps({name: f'say "{KEY}" \\'})
    yield repr(body)
    yield repr({name: f"'{KEY}'", "other": "kept"})
    yield repr({name: [KEY]})
    yield repr(json.dumps(body).encode())
    yield f"Config({name}='{KEY}', other='kept')"
    yield f"Config({name}=b'{KEY}', other='kept')"
    yield f'{{"{name}": "{KEY} and it was cut off he'
    yield json.dumps({name: 20251122693})[:-1].replace("20251122693", KEY)


@pytest.mark.parametrize(
    "name", [*NAMES, "client_secret", "refresh_token", "X-Vault-Token", "corpSecret", "SECRET_KEY"]
)
def test_every_name_is_masked_in_every_shape(name: str) -> None:
    for shape in shapes(name):
        masked = redact(shape)
        assert KEY not in masked, shape
        assert redaction.MASK in masked, shape
        assert masked.count("kept") == shape.count("kept"), f"too much of {shape}: {masked}"


@pytest.mark.parametrize(
    "text",
    [
        "key takeaways: none",
        "token of appreciation",
        "The secret: listen. The key: patience. Passwords: see the policy.",
        "password: must be changed every 90 days",
        "Authorization: the new rule requires a licence",
        "cookie: a small file; cookies are set",
        "bearer instruments and basic authentication in 2024",
        "primary_key=5 idempotency_key=a monkey=3 max_tokens=100 keyword=x",
        "see https://example.com/a?b=c@d and mail a@b.c",
        "POST https://example.com:8443/x HTTP/1.1",
        '{"token": null, "secret": None}',
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "eyJ is how they begin; AKIA too",
        "关键：密码 token 要求",
        "",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text


FRAGMENTS = st.sampled_from(
    [
        *(
            *EXACT,
            *NAMES,
            *shapes("token"),
            redaction.MASK,
            "://",
            "@",
            "Bearer ",
            "Cookie: a=",
            "eyJ",
            "null",
        ),
        *("\"'\\=: []{},&\n"),
    ]
)


@given(st.lists(FRAGMENTS | st.text(max_size=5), max_size=8).map("".join))
def test_masking_twice_is_masking_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


REPEATED = [
    *(
        "a",
        " ",
        "\n",
        "'",
        '"',
        "\\",
        '\\"',
        "[redacted]",
        "://",
        "://a",
        "://a@",
        "://'",
        "eyJ",
        "eyJ.",
        "AKIA",
    ),
    *(
        "key=",
        "key=)",
        "key=\\",
        "key='a",
        "key = [",
        "token",
        "token ",
        "token\t",
        '"token":"',
        '"token" : ',
    ),
    *(
        '\\"token\\": \\"',
        'token=[b"',
        "eyJabcdefgh.",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ",
        "bearer a",
    ),
    *(
        "authorization: ",
        "authorization: a ",
        "cookie: a=",
        "cookie: a",
        'cookie: a="b',
        "password: ",
        "password: a",
    ),
    *("x-", "x-a-", "x-a-token", "cookie: " + "a" * 190 + " ", "bearer " + "a" * 190 + " "),
]


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("unit", REPEATED)
def test_a_long_text_of_one_pattern_is_masked_to_its_end(unit: str) -> None:
    """Behind words that wake every rule; a quadratic pattern would lose patience."""
    text = "key token secret password authorization cookie bearer private key eyj " + unit * (2**18 // len(unit))
    assert KEY not in redact(f"{text} key={KEY}")


# Log records


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Callable[[], str]]]:
    """A logger whose whole output is captured, under the redacting factory."""
    before = logging.getLogRecordFactory()
    redaction.install()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s %(args)s %(msg)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    logger = logging.getLogger("tests.redaction")
    logger.setLevel(logging.DEBUG)
    try:
        yield logger, stream.getvalue
    finally:
        root.removeHandler(handler)
        logging.setLogRecordFactory(before)


Log = tuple[logging.Logger, Callable[[], str]]


def test_arguments_are_put_in_before_masking(log: Log) -> None:
    logger, output = log
    logger.warning("calling %s with %r", ROBOT, {"password": KEY})
    logger.warning("%(key)s and key=%(key)s", {"key": "K" + KEY[1:]})
    logger.warning("key=%s", KEY)
    assert "calling https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=[redacted] with" in output()
    assert KEY not in output()


def test_an_exception_and_its_causes_are_masked_in_the_log(log: Log) -> None:
    logger, output = log
    try:
        try:
            raise OSError(f"refused: {ROBOT}")
        except OSError as error:
            raise ValueError(f"token={KEY}") from error
    except ValueError:
        logger.exception("sending failed", stack_info=True)
    assert "Traceback" in output()
    assert "ValueError: token=[redacted]" in output()
    assert "OSError: refused: https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=[redacted]" in output()
    assert "Stack (most recent call last)" in output()
    assert KEY not in output()


def test_a_handler_that_formats_by_itself_finds_nothing_to_leak(log: Log) -> None:
    record = logging.getLogger("x").makeRecord(
        "x",
        logging.ERROR,
        "f",
        1,
        "at %s",
        (ROBOT,),
        (ValueError, ValueError(ROBOT), None),
        sinfo=f"key={KEY}",
    )
    assert KEY not in repr(vars(record))


def test_urllib3_at_debug_does_not_tell_a_robots_key(log: Log) -> None:
    _, output = log
    noisy = logging.getLogger("urllib3")
    before = noisy.level
    noisy.setLevel(logging.DEBUG)
    try:
        with website({"/cgi-bin/webhook/send": Answer(body=b"{}")}) as site:
            requests.post(site.url(f"/cgi-bin/webhook/send?key={KEY}"), json={}, timeout=10)
            assert site.seen[0].path.endswith(KEY)
    finally:
        noisy.setLevel(before)
    assert "POST /cgi-bin/webhook/send?key=[redacted] HTTP/1.1" in output()
    assert KEY not in output()


def test_what_requests_raises_is_masked_in_the_log(log: Log) -> None:
    logger, output = log
    with pytest.raises(requests.ConnectionError) as caught:
        requests.post(f"http://127.0.0.1:1/cgi-bin/webhook/send?key={KEY}", timeout=10)
    assert KEY in str(caught.value)  # so it would have been told
    logger.error("failed: %s", caught.value, exc_info=caught.value)
    assert "key=[redacted]" in output()
    assert KEY not in output()


class Odd:
    def __str__(self) -> str:
        raise RuntimeError(f"key={KEY}")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("%s", (Odd(),)),
        ("%s %s", (f"key={KEY}",)),
        ("none", (f"key={KEY}",)),
        ("%d", (f"key={KEY}",)),
        ("%(missing)s", ({"key": KEY},)),
        ("%", (KEY,)),
        ("%s", (b"\xff\x00",)),
        (Odd(), ()),
        (Odd(), (KEY,)),
        (None, ()),
        (17, ()),
    ],
)
def test_odd_arguments_neither_raise_nor_leak(
    log: Log, capsys: pytest.CaptureFixture[str], message: Any, args: tuple[Any, ...]
) -> None:
    logger, output = log
    logger.warning(message, *args)
    assert output().startswith("WARNING tests.redaction ")
    captured = capsys.readouterr()
    assert KEY not in output() + captured.out + captured.err
    assert "Logging error" not in captured.err


@pytest.mark.usefixtures("log")
def test_a_lone_surrogate_can_be_told() -> None:
    make = logging.getLogRecordFactory()
    record = make("tests", logging.WARNING, __file__, 1, f"\ud800 key={KEY} %s", ("\udfff",), None)
    assert record.getMessage() == "\ud800 key=[redacted] \udfff"


def test_a_percent_sign_in_the_result_is_not_formatted_again(log: Log) -> None:
    logger, output = log
    logger.warning("%s", "100 %s %d")
    assert "100 %s %d" in output()


def test_installing_twice_wraps_once(log: Log) -> None:
    factory = logging.getLogRecordFactory()
    redaction.install()
    assert logging.getLogRecordFactory() is factory


def test_an_earlier_factory_still_makes_the_record() -> None:
    before = logging.getLogRecordFactory()

    def stamped(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)
        record.stamp = 1
        return record

    logging.setLogRecordFactory(stamped)
    try:
        redaction.install()
        record = logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, f"key={KEY}", (), None)
        assert (record.getMessage(), vars(record)["stamp"]) == ("key=[redacted]", 1)
    finally:
        logging.setLogRecordFactory(before)
