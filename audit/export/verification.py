"""Whether a file was exported here, and whether the trail still says, provably, what stands in it.

A file is known by its digest, which the event of the export's end holds. Memory is constant, however long the file is.
"""

import itertools
import zipfile
from pathlib import Path
from typing import Any

from audit import keys, proof, search
from audit.export.comparison import Comparison, Tally, genuine_facts
from audit.export.package import digest
from audit.models import AuditEvent
from audit.search import Search
from audit.vocabulary import TrailEvent

# An archive file is read once for so many rows that left the table.
_GONE_AT_ONCE = 10_000
_END = 2**63 - 1


def verify(file: Path, tally: Tally) -> dict[str, Any]:
    """What the trail tells of a file that proved itself. Raises Broken, with the place that differs."""
    return _check_package(file) if zipfile.is_zipfile(file) else _check_plain(file, tally)


def _check_package(file: Path) -> dict[str, Any]:
    """The package's own proofs, its keys against ours, its manifest against the trail."""
    try:
        with zipfile.ZipFile(file) as package:
            manifest = proof.check_package(package)
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise proof.Broken(f"is no package of ours, or it was changed ({error})") from error
    ours = {key.public_bytes_raw().hex() for key in keys.public_keys().values()}
    if strange := sorted(set(manifest["public_keys"]) - ours):
        raise proof.Broken(f"it is signed by {proof.key_id(bytes.fromhex(strange[0]))}, which is no key of ours")
    told = _manifest(manifest["sha256"])
    for name in ("query", "rows", "complete", "columns", "started_by_event"):
        if told[name] != manifest[name]:
            raise proof.Broken(f"its manifest says another “{name}” than the trail")
    return told


def _check_plain(file: Path, tally: Tally) -> dict[str, Any]:
    """Row by row."""
    manifest = _manifest(digest(file))
    comparison = Comparison(tally)
    with file.open(encoding="utf-8-sig", newline="") as text:
        gone = comparison.gone(enumerate(proof.rows(text, manifest["form"]), 1))
        while some := list(itertools.islice(gone, _GONE_AT_ONCE)):
            comparison.check_gone(some)
    return manifest


def _manifest(sha256: str) -> dict[str, Any]:
    """What the trail says of the file with this digest."""
    asked = Search(q=sha256, what=TrailEvent.EXPORT_FINISHED)
    for pks in search.chunks(asked, below=_END, size=10):
        for facts in genuine_facts(AuditEvent.objects.filter(pk__in=pks)):
            if facts.get("sha256") == sha256:
                return facts
    raise proof.Broken("is not a file that was exported here, or it was changed since")
