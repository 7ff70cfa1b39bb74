"""The members of an audience as a CSV file: written, and read with everything that is wrong with it."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from audit import context, proof
from audit.recorder import record
from workflows.domain.errors import Invalid, NotPermitted
from workflows.domain.events import Event
from workflows.domain.text import strip_invisible
from workflows.models import Audience, AudienceMember, Channel

COLUMNS = ("channel", "address", "label", "is_group", "size")
MOST_BYTES = 8 * 2**20
MOST_ROWS = 100_000
_SHOWN = 100
_AT_ONCE = 2_000
_TELL_EVERY = 1_000
_YES, _NO = ("yes", "true", "1", "是"), ("no", "false", "0", "否")


def may_export(by: User) -> bool:
    """Whoever could write the list, or takes whole trails out of the house."""
    return by.has_perm("workflows.change_audience") or by.has_perm("audit.export_auditevent")


def export(audience: Audience, *, by: User) -> Iterator[list[str]]:
    """The audience's own members, a row of cells each; on the trail before the first row."""
    if not may_export(by):
        raise NotPermitted(_("Your role does not include exporting audiences."))
    members = AudienceMember.objects.filter(audience=audience).select_related("channel").order_by("pk")
    with transaction.atomic(), context.acting(by):
        record(Event.AUDIENCE_EXPORTED, target=audience, facts={"rows": members.count()})
    return (_cells(member) for member in members.iterator(chunk_size=_AT_ONCE))


def _cells(member: AudienceMember) -> list[str]:
    size = "" if member.size is None else str(member.size)
    return [member.channel.name, member.address, member.label, _YES[0] if member.is_group else _NO[0], size]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one line. ``column`` is empty where it is the line as a whole."""

    line: int
    column: str
    text: str


@dataclass(slots=True)
class Reading:
    """``members`` are unsaved and belong to no audience yet. The first of the ``problems`` are kept, all counted."""

    members: list[AudienceMember] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    wrong: int = 0

    def note(self, line: int, error: ValidationError) -> None:
        for column, texts in ValidationError(error.update_error_dict({})).message_dict.items():
            self.wrong += 1
            if len(self.problems) < _SHOWN:
                named = column if column in COLUMNS else ""
                self.problems.append(Problem(line=line, column=named, text=" ".join(texts)))


def _nobody(rows: int) -> None:
    """For readings that nobody waits for."""


def read(content: bytes, told: Callable[[int], None] = _nobody) -> Reading:
    """Every line of a file, checked as a form would check it. ``told`` hears now and then how far it is.

    Raises Invalid where the file as a whole cannot be read.
    """
    if len(content) > MOST_BYTES:
        most = {"most": MOST_BYTES // 2**20}
        raise Invalid(_("A file has at most %(most)s MB: split it.") % most, field="file")
    reading, lines_of = Reading(), dict[tuple[int, str], int]()
    channels = {channel.name: channel for channel in Channel.objects.all()}
    for number, (line, row) in enumerate(_rows(_decoded(content)), 1):
        try:
            member = _member(row, channels)
            first = lines_of.setdefault((member.channel_id, member.address), line)
            if first != line:
                raise ValidationError({"address": _("Line %(line)s has this address already.") % {"line": first}})
            reading.members.append(member)
        except ValidationError as error:
            reading.note(line, error)
        if number % _TELL_EVERY == 0:
            told(number)
    return reading


def _decoded(content: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    raise Invalid(_("The file is neither UTF-8 nor GB18030: save it as “CSV UTF-8”."), field="file")


def _rows(text: str) -> Iterator[tuple[int, Mapping[str, str] | None]]:
    """(line, cells by column) of each row; None instead of cells where there are too many or too few."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = [cell.strip().casefold() for cell in next(reader, [])]
        if sorted(names) != sorted(COLUMNS):
            expected = {"columns": ",".join(COLUMNS)}
            raise Invalid(
                _("The first line has to name these columns, with commas: %(columns)s") % expected, field="file"
            )
        line, count = reader.line_num + 1, 0
        for cells in reader:
            if cells:
                count += 1
                yield line, dict(zip(names, map(_plain, cells), strict=True)) if len(cells) == len(names) else None
            if count > MOST_ROWS:
                raise Invalid(_("A file has at most %(most)s rows: split it.") % {"most": MOST_ROWS}, field="file")
            line = reader.line_num + 1
    except csv.Error as error:
        facts = {"line": reader.line_num, "why": error}
        raise Invalid(_("Line %(line)s cannot be read as CSV: %(why)s.") % facts, field="file") from error


def _plain(cell: str) -> str:
    """Without the apostrophe that an export puts before what looks like a formula."""
    cell = strip_invisible(cell).strip()
    original = proof.original(cell)
    return original if proof.neutral(original) == cell else cell


def _member(row: Mapping[str, str] | None, channels: Mapping[str, Channel]) -> AudienceMember:
    if row is None:
        raise ValidationError({"__all__": _("This line does not have %(n)s cells.") % {"n": len(COLUMNS)}})
    if row["channel"] not in channels:
        raise ValidationError({"channel": _("There is no channel of the name “%(name)s”.") % {"name": row["channel"]}})
    member = AudienceMember(
        channel=channels[row["channel"]],
        address=row["address"],
        label=row["label"],
        is_group=_is_group(row["is_group"]),
        size=_size(row["size"]),
    )
    member.clean_fields(exclude={"audience", "channel"})
    member.clean()
    return member


def _is_group(word: str) -> bool:
    if word.casefold() in _YES:
        return True
    if word.casefold() in _NO:
        return False
    raise ValidationError({"is_group": _("Write yes or no.")})


def _size(word: str) -> int | None:
    if not word:
        return None
    if not re.fullmatch("[0-9]{1,8}", word):
        raise ValidationError({"size": _("Write a whole number, or nothing where nobody knows.")})
    return int(word)
