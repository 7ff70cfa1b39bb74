"""A file for each message, in a folder of the installation's data: to be archived, mounted, or served by others."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy

from workflows.channels import Channel, Means, Parcel, Receipt, Sender, TryLater, register
from workflows.domain import markup
from workflows.domain.content import Content, Part
from workflows.domain.text import clip

_NAMES = re.compile(r"[^\w-]+")


class FolderForm(forms.Form):
    folder = forms.RegexField(
        r"^[a-z0-9][a-z0-9-]{0,39}$",
        label=gettext_lazy("Folder"),
        help_text=gettext_lazy("Small letters, digits and hyphens; it is made under DATA_DIR/documents."),
    )
    form = forms.ChoiceField(label=gettext_lazy("Form"), choices=[("markdown", "Markdown"), ("html", "HTML")])


@register
class Folder(Channel):
    kind = "folder"
    label = gettext_lazy("Folder of documents")
    config_form = FolderForm
    speaks_to_a_group = True
    per_minute = 600

    def repeatable_for(self, config: Mapping[str, Any], form: str) -> timedelta:
        """Writing it again writes the same file."""
        return timedelta(days=365)

    def render(self, content: Content, config: Mapping[str, Any]) -> tuple[Part, ...]:
        subject = clip(" ".join(markup.to_plain(content.title).split()), 200) or "–"
        return (Part(number=1, of=1, text="\n\n".join([subject, *filter(str.strip, content.blocks)]), form="mail"),)

    @contextmanager
    def connect(self, means: Means) -> Iterator[Sender]:
        yield lambda parcel: _write(parcel, means.config)


def _write(parcel: Parcel, config: Mapping[str, Any]) -> Receipt:
    title, _gap, body = parcel.part.text.partition("\n\n")
    suffix, text = (".html", _html(title, body)) if config["form"] == "html" else (".md", _markdown(title, body))
    folder = Path(settings.DATA_DIR) / "documents" / str(config["folder"])
    name = f"{_NAMES.sub('-', title).strip('-')[:60]}-{parcel.key[:8]}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        _replace(folder / name, text.encode())
    except OSError as error:
        raise TryLater("not_written", f"The file could not be written: {error.strerror or 'unknown'}.") from None
    return Receipt(reference=name, reply=f"{len(text.encode())} B")


def _replace(path: Path, content: bytes) -> None:
    """All of the file or none of it, whatever happens in between."""
    written = path.with_suffix(".part")
    descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            written.unlink()
        raise


def _markdown(title: str, body: str) -> str:
    return f"# {title}\n\n{markup.to_markdown(body)}\n"


def _html(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title>'
    return (
        f"<!doctype html><html><head>{head}</head><body><h1>{escape(title)}</h1>{markup.to_html(body)}</body></html>\n"
    )
