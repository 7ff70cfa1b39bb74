"""Where prepared files lie: a folder of our own, names made of the export's key, only we can read them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.conf import settings

from audit.models import AuditExport


class Busy(Exception):
    """Another worker writes this file."""


def finished(export: AuditExport) -> Path:
    """The file that its owner downloads."""
    return _folder() / f"{export.key}.{export.form}"


def part(export: AuditExport, what: str) -> Path:
    """A file that is being written: ``rows``, ``proofs`` or the ``package`` of both."""
    return _folder() / f"{export.key}.{what}.part"


def remove(export: AuditExport) -> None:
    """Everything that was written for it, finished or not."""
    for path in (finished(export), *(part(export, what) for what in ("rows", "proofs", "package"))):
        path.unlink(missing_ok=True)


@contextmanager
def resumed(path: Path, size: int) -> Iterator[IO[bytes]]:
    """The file as far as it was saved: what a crash left behind that is cut off. One writer at a time; raises Busy."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy from error
        if os.fstat(file.fileno()).st_size < size:
            raise FileNotFoundError(2, "a part of the file is gone", str(path))
        file.truncate(size)
        file.seek(size)
        yield file


def save(file: IO[bytes], data: bytes) -> int:
    """Append, so that it survives a power failure. Returns the file's size."""
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
    return file.tell()


def publish(written: Path, path: Path) -> None:
    """Give a written file its final name too. The first one stays, so that a crash right after this loses nothing."""
    path.unlink(missing_ok=True)
    path.hardlink_to(written)
    sync(path)


def sync(path: Path) -> None:
    """Make the names in a file's folder last."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _folder() -> Path:
    folder = Path(settings.AUDIT_EXPORT_DIR)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
