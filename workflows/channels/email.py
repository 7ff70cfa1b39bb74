"""Mail, one letter for each recipient, over one connection of the installation's mail server (EMAIL_URL)."""

import smtplib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from email.utils import formataddr, parseaddr
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.smtp import EmailBackend
from django.core.validators import URLValidator, validate_email
from django.utils.encoding import punycode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from compliance_bot.guardrails.redaction import redact
from workflows.channels import (
    Channel,
    DeliveryError,
    Means,
    OutcomeUnknown,
    Parcel,
    Receipt,
    Rejected,
    Sender,
    TryLater,
    register,
)
from workflows.domain import markup
from workflows.domain.content import Content, Part
from workflows.domain.errors import Invalid
from workflows.domain.text import clip

_MOST_BYTES = 15 * 2**20  # Base64 makes a third more of it, and many servers take 20 to 25 MB
_RECOGNISES = timedelta(hours=24)


class EmailForm(forms.Form):
    from_address = forms.EmailField(
        label=gettext_lazy("From"), required=False, help_text=gettext_lazy("Empty: the installation's own address.")
    )
    from_name = forms.CharField(label=gettext_lazy("Name of the sender"), required=False, max_length=80)
    unsubscribe = forms.CharField(
        label=gettext_lazy("Unsubscribe"),
        required=False,
        max_length=300,
        help_text=gettext_lazy("A mail address or a web address; mail programs show it as a button."),
    )
    recognises_repetitions = forms.BooleanField(
        label=gettext_lazy("The server drops a second letter of the same Message-ID"),
        required=False,
        help_text=gettext_lazy("Then a letter whose arrival is uncertain is sent again by itself."),
    )

    def clean_from_name(self) -> str:
        name = str(self.cleaned_data["from_name"])
        if not name.isprintable():
            raise ValidationError(_("The name holds characters that cannot be printed."))
        return name

    def clean_unsubscribe(self) -> str:
        where = str(self.cleaned_data["unsubscribe"]).strip()
        if where and "@" in where and ":" not in where:
            validate_email(where)
        elif where:
            URLValidator(schemes=["https"])(where)
        return where


@register
class Email(Channel):
    kind = "email"
    label = gettext_lazy("E-mail")
    config_form = EmailForm
    per_minute = 300

    def repeatable_for(self, config: Mapping[str, Any], form: str) -> timedelta:
        return _RECOGNISES if config.get("recognises_repetitions") else timedelta(0)

    def clean_address(self, address: str) -> str:
        cleaned = address.strip()
        try:
            validate_email(cleaned)
        except ValidationError as error:
            raise ValueError(_("Write a mail address, such as name@example.com.")) from error
        name, _at, domain = cleaned.rpartition("@")
        return f"{name}@{domain.lower()}"

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        if sum(attached.size for attached in content.attachments) > _MOST_BYTES:
            raise Invalid(_("A mail carries at most 15 MB of files."), field="attachments")
        subject = clip(" ".join(markup.to_plain(content.title).split()), 200) or "–"
        text = "\n\n".join([subject, *filter(str.strip, content.blocks)])
        return (Part(number=1, of=1, text=text, form="mail", attachments=content.attachments),)

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        server = get_connection()
        if not isinstance(server, EmailBackend):
            raise Rejected("no_server", "No mail server is set up: set EMAIL_URL.", channel_broken=True)
        try:
            server.open()
        except (smtplib.SMTPAuthenticationError, smtplib.SMTPNotSupportedError) as error:
            sentence = f"The mail server does not let us in: {_words(error)}."
            raise Rejected("auth", sentence, channel_broken=True) from None
        except OSError as error:  # smtplib's errors are OSErrors
            raise TryLater("connect", f"The mail server could not be reached: {_words(error)}.") from None
        smtp = server.connection
        if smtp is None:
            raise TryLater("connect", "The mail server could not be reached.")
        try:
            yield lambda parcel: _send(parcel, means, smtp)
        finally:
            server.close()


def _send(parcel: Parcel, means: Means, smtp: smtplib.SMTP) -> Receipt:
    letter = _letter(parcel, means)
    sender, to = parseaddr(letter.from_email)[1], parcel.addresses[0]
    raw = letter.message().as_bytes(linesep="\r\n")  # type: ignore[call-arg]  # Django's own messages take it
    try:
        _require(smtp.mail(_ascii(sender)), sender=True)
        _require(smtp.rcpt(_ascii(to)))
    except OSError as error:
        raise TryLater("reset", f"The mail server hung up: {_words(error)}.") from None
    try:
        answer = smtp.data(raw)
    except smtplib.SMTPDataError as error:  # it did not even want to read it
        _require((error.smtp_code, error.smtp_error))
        raise
    except OSError as error:
        raise OutcomeUnknown("reset", f"The mail server hung up: {_words(error)}. The mail may have arrived.") from None
    _require(answer)
    return Receipt(reference=str(letter.extra_headers["Message-ID"]), reply=_line(*answer))


def _letter(parcel: Parcel, means: Means) -> EmailMultiAlternatives:
    config, part = means.config, parcel.part
    subject, _gap, body = part.text.partition("\n\n")
    address = config.get("from_address") or parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    headers = {
        "Message-ID": f"<{parcel.key}@{punycode(address.rpartition('@')[2])}>",
        "Auto-Submitted": "auto-generated",
    }
    if where := config.get("unsubscribe"):
        headers["List-Unsubscribe"] = f"<{where}>" if ":" in where else f"<mailto:{where}>"
    letter = EmailMultiAlternatives(
        subject=subject,
        body=markup.to_plain(body),
        from_email=formataddr((config.get("from_name", ""), address)),
        to=[parcel.addresses[0]],
        headers=headers,
    )
    letter.attach_alternative(f"<!doctype html><html><body>{markup.to_html(body)}</body></html>", "text/html")
    for attached in part.attachments:
        letter.attach(attached.name, means.read_attachment(attached.sha256), attached.media_type)
    return letter


def _require(answer: tuple[int, bytes | str], *, sender: bool = False) -> None:
    """Raises DeliveryError unless the server said yes: 4xx may change, 5xx will not."""
    code, words = answer
    if 200 <= code < 300:
        return
    raise _refusal(code, _line(code, words), sender=sender)


def _refusal(code: int, line: str, *, sender: bool) -> DeliveryError:
    if 400 <= code < 500:
        return TryLater(f"smtp_{code}", f"The mail server asks for patience: {line}.")
    return Rejected(f"smtp_{code}", f"The mail server refused: {line}.", channel_broken=sender)


def _line(code: int, words: bytes | str) -> str:
    text = words.decode(errors="replace") if isinstance(words, bytes) else words
    return clip(redact(f"{code} {' '.join(text.split())}"), 200)


def _words(error: OSError) -> str:
    return clip(redact(" ".join(str(error).split())) or type(error).__name__, 200)


def _ascii(address: str) -> str:
    name, _at, domain = address.rpartition("@")
    return f"{name}@{punycode(domain)}"
