"""WeCom's errcodes in one place: what each means, what a person can do, and what a sender does next.

WeCom answers HTTP 200 with an ``errcode``; 0 is success. Only the number decides: WeCom says that ``errmsg``
may change.
"""

from dataclasses import dataclass
from enum import Enum


class ErrorClass(Enum):
    """What a sender does next. None of them was delivered: a non-zero errcode is a refusal."""

    TRANSIENT = "transient"
    """WeCom was busy: the same call may succeed soon."""
    LIMIT = "limit"
    """Too many calls: wait for the window, then repeat."""
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    """The access token is spent: fetch a new one once, then repeat once."""
    AUTH = "auth"
    """The credentials are wrong. Never in a loop: WeCom blocks the whole address for an hour."""
    CHANNEL_BROKEN = "channel_broken"
    """The robot or application cannot send anything at all until a person repairs it."""
    PERMANENT = "permanent"
    """This message would be refused again."""


@dataclass(frozen=True, slots=True)
class Errcode:
    """One code. ``meaning`` and ``remedy`` are halves of a sentence: no capital, no full stop."""

    code: int
    meaning: str
    remedy: str
    error_class: ErrorClass

    @property
    def sentence(self) -> str:
        """For a person: the meaning, the remedy and the code."""
        return f"WeCom: {self.meaning}: {self.remedy} (errcode {self.code})."


def lookup(code: int) -> Errcode:
    """What a non-zero errcode means. An unknown one is a refusal too, so it was not delivered: permanent."""
    return _TABLE.get(code) or Errcode(
        code,
        "the call was refused with a code that this product does not know",
        "look the code up in WeCom's list of global error codes",
        ErrorClass.PERMANENT,
    )


_REPORT = "this is a fault of this product, please report it"
_SHORTEN = "shorten the message"
_ADMIN = "ask the WeCom administrator"

_MEANINGS: dict[ErrorClass, dict[int, tuple[str, str]]] = {
    ErrorClass.TRANSIENT: {
        -1: ("the system is busy", "it is tried again by itself"),
        6000: ("the data was changed by someone else at the same time", "it is tried again by itself"),
    },
    ErrorClass.LIMIT: {
        45009: ("too many calls in this period", "it is tried again when the period is over"),
        45033: ("too many calls at the same time", "it is tried again more slowly"),
        45036: ("too much data was requested in this period", "it is tried again when the period is over"),
    },
    ErrorClass.TOKEN: {
        40014: ("the access token is not valid", "a new one is fetched once by itself"),
        42001: ("the access token has expired", "a new one is fetched once by itself"),
    },
    ErrorClass.AUTH: {
        40001: ("the secret is wrong", "store the application's current secret"),
        40013: ("the corporation id is wrong", "correct it in the channel's settings"),
        41004: ("the secret is missing", "store the application's secret"),
        45031: ("the secret was judged unsafe", "reset it in the WeCom console and store the new one"),
    },
    ErrorClass.CHANNEL_BROKEN: {
        48002: ("the application has no right to this interface", f"{_ADMIN} to grant it"),
        48006: ("the right to this interface was withdrawn", f"{_ADMIN} to grant it again"),
        50003: ("the application is disabled", f"{_ADMIN} to enable it"),
        60020: (
            "this server's address is not on the application's list of trusted addresses",
            f"{_ADMIN} to add it; the change takes about a minute",
        ),
        93000: (
            "the webhook is not valid or the robot was removed",
            "create a new robot and store its key",
        ),
        93004: ("the robot is disabled", "enable it in the group's settings"),
        93008: ("the robot is not in the group", "add it to the group again"),
        301002: ("the agent id does not belong to this application", "correct it in the channel's settings"),
    },
    ErrorClass.PERMANENT: {
        40007: ("the uploaded file is unknown or older than three days", "upload it again"),
        40008: ("the message type is not valid", _REPORT),
        40031: ("the list of members is not valid", "correct the recipients"),
        40032: ("the list of members is too long or empty", "correct the recipients"),
        40033: ("the request holds characters that are not allowed", _REPORT),
        40035: ("a parameter is not valid", _REPORT),
        40056: ("the agent id is not valid", "correct it in the channel's settings"),
        40058: ("a parameter is not valid or the content is too long", _SHORTEN),
        40063: ("a required parameter is empty", _REPORT),
        41001: ("the access token is missing from the request", _REPORT),
        44001: ("the file is empty", "choose another file"),
        44004: ("the content is empty", "write something"),
        45001: ("the file is too large", "choose a smaller file"),
        45002: ("the content is too long", _SHORTEN),
        45007: ("the voice message is longer than 60 seconds", "record a shorter one"),
        45008: ("there are more than eight articles", "send fewer articles"),
        50001: ("the redirect address is not trusted", f"{_ADMIN} to add its domain"),
        50002: ("the member is outside the range of the application", f"{_ADMIN} to extend it"),
        60011: ("the application has no right to a recipient", f"{_ADMIN} to extend its visible range"),
        60021: ("a recipient is outside the visible range", f"{_ADMIN} to extend it"),
        81013: ("none of the recipients is valid", "correct the recipients"),
        82001: ("no recipient was named", "correct the recipients"),
        82002: ("too many departments were named", "send to fewer departments"),
        82003: ("too many tags were named", "send to fewer tags"),
        85002: ("the text holds a banned word", "change the wording"),
    },
}

_TABLE = {
    code: Errcode(code, meaning, remedy, error_class)
    for error_class, codes in _MEANINGS.items()
    for code, (meaning, remedy) in codes.items()
}
