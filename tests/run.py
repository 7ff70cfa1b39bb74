"""``make test``: the whole suite on SQLite, what touches tables again on PostgreSQL, then real processes.

A machine without PostgreSQL or Chromium runs the rest and says so; with CI=true a missing one is a failure.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from tests import machine

_TABLES = ["tests/services", "tests/audit", "tests/admin"]
_PROCESSES = ["tests/drills", "tests/deploy", "tests/e2e"]


def main() -> int:
    failures = [
        _pytest("SQLite", ["tests", "-n", "2", *(f"--ignore={path}" for path in _PROCESSES)], {}),
    ]
    url = machine.postgresql()
    if url:
        failures.append(_pytest("PostgreSQL", [*_TABLES, "-n", "2"], {"DATABASE_URL": url}))
    failures.append(_pytest("real processes", _PROCESSES, {}))
    missing = [name for name, found in (("PostgreSQL", url), ("Chromium", machine.chromium())) if not found]
    for name in missing:
        sys.stdout.write(f"not run here: tests that need {name} (it was not found)\n")
    in_ci = os.environ.get("CI") == "true"
    return int(any(failures) or (in_ci and bool(missing)))


def _pytest(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """True when it failed."""
    sys.stdout.write(f"\n== {name} ==\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode != 0


if __name__ == "__main__":
    raise SystemExit(main())
