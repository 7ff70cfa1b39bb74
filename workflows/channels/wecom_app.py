"""Messages of a self-built WeCom application to members, departments and tags.

A member's address is the userid; ``party:ID`` is a department, ``tag:ID`` a tag, ``@all`` everybody who sees the
application. WeCom answers one call for up to a thousand members, and names those whom it did not reach.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.http import Limits, OutboundError, Reply
from workflows.channels import (
    Channel,
    Means,
    OutcomeUnknown,
    Parcel,
    Receipt,
    Rejected,
    Sender,
    Token,
    TryLater,
    register,
)
from workflows.channels.common import wecom
from workflows.channels.common import wecom_shapes as shapes
from workflows.channels.common.http import unanswered
from workflows.domain.content import Attached, Content, Part
from workflows.domain.wecom_errcodes import ErrorClass, lookup

# Bytes of UTF-8; WeCom cuts what is longer in silence.
TEXT_LIMITS = {"markdown": 2048, "text": 2048}
EVERYBODY = "@all"
_FIELDS = {"user": "touser", "party": "toparty", "tag": "totag"}
_MOST = {"user": 1000, "party": 100, "tag": 100}
_UNREACHED = {
    "invaliduser": ("user", "invalid_user", "WeCom knows no such member, or the application is not visible to them."),
    "invalidparty": ("party", "invalid_party", "WeCom knows no such department, or the application may not reach it."),
    "invalidtag": ("tag", "invalid_tag", "WeCom knows no such tag, or the application may not reach it."),
    "unlicenseduser": ("user", "unlicensed", "This member has no licence for the application's interface."),
}
_DUPLICATES = timedelta(minutes=30)
_LONGEST_CHECK = timedelta(hours=4)
_ADDRESS = re.compile(r"@all|(?:party|tag):[0-9]{1,10}|[a-z0-9][a-z0-9_.@-]{0,63}")


class AppForm(wecom.ApiForm):
    corp_id = forms.RegexField(r"^[A-Za-z0-9_-]{4,64}$", label=gettext_lazy("Corp ID"))
    agent_id = forms.IntegerField(label=gettext_lazy("AgentId"), min_value=1)
    form = forms.ChoiceField(
        label=gettext_lazy("Shown as"),
        choices=[
            ("markdown", "Markdown"),
            ("text", gettext_lazy("plain text")),
            ("textcard", gettext_lazy("text card")),
            ("news", gettext_lazy("news with links")),
            ("card", gettext_lazy("notice card")),
        ],
        initial="markdown",
        required=False,
        help_text=gettext_lazy("What has no links is sent as Markdown instead of as news or as a card."),
    )

    def clean_form(self) -> str:
        return self.cleaned_data["form"] or "markdown"


@register
class WeComApp(Channel):
    kind = "wecom_app"
    label = gettext_lazy("WeCom application")
    config_form = AppForm
    secret_fields = ("corp_secret",)
    per_minute = 600
    # What goes beyond this, WeCom drops without a word.
    per_recipient: ClassVar[Mapping[timedelta, int]] = {timedelta(seconds=60.5): 30, timedelta(hours=1): 1000}
    at_once = 1000
    recallable_for = timedelta(hours=24)
    limits: ClassVar[Limits] = wecom.LIMITS

    def repeatable_for(self, config: Mapping[str, Any], form: str) -> timedelta:
        """The same JSON is not shown twice within this time at least (``enable_duplicate_check``).

        A file is uploaded anew each time, so its JSON is never the same.
        """
        return timedelta(0) if form == "file" else _DUPLICATES

    def clean_address(self, address: str) -> str:
        cleaned = address.strip().lower()
        if not _ADDRESS.fullmatch(cleaned):
            raise ValueError(_("Write a userid, “party:” and a number, “tag:” and a number, or “@all”."))
        return cleaned

    def is_group(self, address: str) -> bool:
        return _sort(address) != "user" or address == EVERYBODY

    def bundle(self, addresses: Sequence[str]) -> int:
        """Everybody alone; else as many of each sort as one call takes."""
        room = dict(_MOST)
        for number, address in enumerate(addresses):
            if address == EVERYBODY:
                return max(number, 1)
            if room[_sort(address)] == 0:
                return number
            room[_sort(address)] -= 1
        return len(addresses)

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        return shapes.Shape(form=config.get("form", "markdown"), limits=TEXT_LIMITS).render(content)

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        _secret(means.secrets)
        yield Application(means, self.limits).send

    def recall(self, reference: str, means: Means) -> None:
        Application(means, self.limits).call("message/recall", {"msgid": reference})


@dataclass(frozen=True, slots=True)
class Application:
    """One application's API."""

    means: Means
    limits: Limits

    def send(self, parcel: Parcel) -> Receipt:
        part = parcel.part
        words = self._file(part.attachments[0]) if part.form == "file" else shapes.payload(part)
        said = self.call(
            "message/send",
            {
                **_to(parcel.addresses),
                "agentid": self.means.config["agent_id"],
                **words,
                "enable_duplicate_check": 1,
                "duplicate_check_interval": _interval(parcel.key),
            },
        )
        return Receipt(
            reference=str(said.get("msgid", "")),
            reply=wecom.clean(f"errcode 0 {said.get('errmsg', '')}"),
            refused=dict(_refused(said, parcel.addresses)),
        )

    def call(self, path: str, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """WeCom's answer with errcode 0. Raises DeliveryError."""
        return self._with_token(path, lambda url: self.means.http.post_json(url, payload, limits=self.limits))

    def _with_token(self, path: str, post: Callable[[str], Reply]) -> Mapping[str, Any]:
        """A spent token is renewed once; whatever WeCom says then is believed."""
        token = self.means.tokens.get(self._fetch)
        said = self._said(path, token, post)
        if _class_of(said) is ErrorClass.TOKEN:
            token = self.means.tokens.renew(token, self._fetch)
            said = self._said(path, token, post)
        if said["errcode"] != 0:
            raise wecom.refusal(said["errcode"], wecom.clean(str(said.get("errmsg", "")), token))
        return said

    def _said(self, path: str, token: str, post: Callable[[str], Reply]) -> Mapping[str, Any]:
        joint = "&" if "?" in path else "?"
        try:
            return wecom.answer(post(f"{self.means.config['base_url']}/cgi-bin/{path}{joint}access_token={token}"))
        except OutboundError as error:
            failure = unanswered(error)
        raise failure  # out here: a chained exception could quote the URL, and with it the token

    def _fetch(self) -> Token:
        """Nothing was sent yet, whatever goes wrong. A wrong secret breaks the channel: WeCom blocks who insists."""
        config, secret = self.means.config, _secret(self.means.secrets)
        url = f"{config['base_url']}/cgi-bin/gettoken?corpid={config['corp_id']}&corpsecret={secret}"
        try:
            said = wecom.answer(self.means.http.get(url, limits=self.limits))
        except OutboundError as error:
            failure = TryLater(error.code, "The access token could not be fetched.")
        except OutcomeUnknown as error:
            failure = TryLater(error.code, "The access token could not be fetched.")
        else:
            token = said.get("access_token")
            if said["errcode"] != 0:
                raise wecom.refusal(said["errcode"], wecom.clean(str(said.get("errmsg", "")), secret))
            if isinstance(token, str) and re.fullmatch(r"[\w-]{1,2048}", token):
                return Token(token, _seconds(said.get("expires_in")))
            failure = TryLater("bad_reply", "WeCom gave no access token.")
        raise failure

    def _file(self, file: Attached) -> dict[str, Any]:
        content, kind = self.means.read_attachment(file.sha256), shapes.media_kind(file)

        def post(url: str) -> Reply:
            return self.means.http.post_file(url, "media", file.name, content, limits=wecom.UPLOAD)

        try:
            said = self._with_token(f"media/upload?type={kind}", post)
        except OutcomeUnknown as error:
            raise TryLater(error.code, "The file could not be uploaded.") from None
        media_id = said.get("media_id")
        if not isinstance(media_id, str) or not media_id:
            raise TryLater("no_media_id", "WeCom took the file and gave no id for it.")
        return {"msgtype": kind, kind: {"media_id": media_id}}


def _class_of(said: Mapping[str, Any]) -> ErrorClass | None:
    return lookup(said["errcode"]).error_class if said["errcode"] != 0 else None


def _secret(secrets: Mapping[str, str]) -> str:
    secret = secrets.get("corp_secret", "").strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{8,200}", secret):
        raise Rejected(
            "no_secret", "The application's secret is not stored, or is none: store it.", channel_broken=True
        )
    return secret


def _seconds(expires_in: object) -> float:
    return float(expires_in) if isinstance(expires_in, int) and 0 < expires_in <= 86400 else 7200.0


def _sort(address: str) -> str:
    sort, colon, _number = address.partition(":")
    return sort if colon else "user"


def _to(addresses: Sequence[str]) -> dict[str, str]:
    """The address fields of a call."""
    found: dict[str, list[str]] = {}
    for address in addresses:
        found.setdefault(_FIELDS[_sort(address)], []).append(address.rpartition(":")[2])
    return {field: "|".join(names) for field, names in found.items()}


def _interval(key: str) -> int:
    """Seconds in which WeCom shows the same JSON once.

    Other for other parcels: two messages of the same words are two, but a parcel that is repeated is one.
    """
    least, most = int(_DUPLICATES.total_seconds()), int(_LONGEST_CHECK.total_seconds())
    return least + uuid.UUID(key).int % (most - least)


def _refused(said: Mapping[str, Any], addresses: Sequence[str]) -> Iterator[tuple[str, Rejected]]:
    """Whom WeCom did not reach. It writes userids in small letters, as our addresses are."""
    for field, (sort, code, sentence) in _UNREACHED.items():
        unreached = set(filter(None, re.split(r"[|,]", str(said.get(field) or "").lower())))
        for address in addresses:
            if _sort(address) == sort and address.rpartition(":")[2] in unreached:
                yield address, Rejected(code, sentence)
