"""The real feeds, served over HTTP on loopback."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings

FOLDER: Path = settings.BASE_DIR.parent / "shared" / "data" / "feeds"


def require() -> None:
    """Skip where the feeds are not there; in CI they have to be."""
    if FOLDER.is_dir():
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"the real feeds are not at {FOLDER}")
    pytest.skip(f"no real feeds at {FOLDER}")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served() -> Iterator[str]:
    """The address under which the folder answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(FOLDER)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def paths(group: str) -> list[str]:
    """URL paths of the feeds of ``real``, ``wellformed`` or ``illformed``."""
    return [f"/{group}/{quote(path.name)}" for path in sorted((FOLDER / group).iterdir())]
