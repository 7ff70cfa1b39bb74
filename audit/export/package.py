"""A file that proves itself without us: rows, the seals over them, and the program that checks both."""

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from django.utils import timezone

from audit import payloads, proof, sealing, search
from audit.export import columns, proofs, rows
from audit.export.seals import SealRange
from audit.models import AuditEvent
from audit.search import Search

FORMAT, VERSION = "compliance-bot/audit-export", 1
DATA = "events.csv"
# So many rows are packed well within the time that a worker has.
MOST = 1_000_000
_CHUNK = 2_000

_README = """\
An export of audit events with everything that proves it.
To check it you need Python 3.11 or newer and nothing else:
    python3 verify.py PACKAGE.zip --key KEY
KEY is the id of the signing key: ask whoever runs the trail for it, by another way than this file.
events.csv: the rows; one apostrophe in front of a cell only keeps spreadsheets from running it.
manifest.json: what was asked for and why. proofs.jsonl: for each row its text, nonce and seal.
本文件包含审计事件及其全部证明材料。
验证只需 Python 3.11 或更高版本：python3 verify.py PACKAGE.zip --key KEY
KEY 为签名密钥的编号，请通过其他途径向系统运营方核实。
events.csv 为数据，manifest.json 为导出说明，proofs.jsonl 为逐行证明。
"""


class NotSealed(Exception):
    """Some events wait for their seal; another sealer is at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows with their proofs, in the same order. ``below``: go on below this key."""

    data: bytes
    proofs: bytes
    rows: int
    below: int
    seals: SealRange


def pieces(asked: Search, names: Sequence[str], *, below: int) -> Iterator[Piece]:
    """Everything that matches and has a key below ``below``. Raises NotSealed."""
    for pks in search.chunks(asked, below=below, size=_CHUNK):
        groups = list(_groups(pks, names))
        cells = [
            proof.cells(json.loads(event["canon"]), event.get("payload"))
            for group in groups
            for event in group["events"]
        ]
        lines = [proof.canonical(group).encode() + b"\n" for group in groups]
        numbers = [group["seal"]["n"] for group in groups]
        yield Piece(
            data=rows.written(cells, names, rows.CSV),
            proofs=b"".join(lines),
            rows=len(cells),
            below=pks[-1],
            seals=SealRange(first_seal=min(numbers), last_seal=max(numbers)),
        )


def _groups(pks: Sequence[int], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The events by their seals, newest seal and place first. Raises NotSealed."""
    places = proofs.places(pks)
    if len(places) < len(pks):  # committed late
        sealing.sweep(timezone.now())
        places = proofs.places(pks)
    if len(places) < len(pks):
        raise NotSealed
    return proofs.groups(places, _texts(pks, names))


def _texts(pks: Sequence[int], names: Sequence[str]) -> dict[int, dict[str, Any]]:
    events = AuditEvent.objects.filter(pk__in=pks).only("pk", "canon", "nonce", "payload_digest")
    kept = payloads.texts(events) if columns.DETAILS in names else {}
    return {event.pk: proofs.text(event, kept.get(event.pk)) for event in events}


def manifest(facts: Mapping[str, Any], *, by: str, reason: str, made_at: datetime) -> dict[str, Any]:
    """What the package says of itself; ``facts`` are those of the event that records its end."""
    said = {"format": FORMAT, "version": VERSION, "file": DATA, "by": by, "reason": reason}
    return proofs.signed({**facts, **said, "form": rows.CSV, "made_at": made_at.isoformat()})


def write(file: IO[bytes], data: Path, proofs: Path, said: Mapping[str, Any]) -> None:
    """Put the package together."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        package.writestr("README.txt", _README)
        package.writestr("manifest.json", json.dumps(said, indent=2, ensure_ascii=False))
        package.write(Path(proof.__file__), "verify.py")
        package.write(data, DATA)
        package.write(proofs, "proofs.jsonl")


def digest(path: Path) -> str:
    """The file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
