"""``make bench-trail``: the audit trail with a million events on SQLite and ten million on PostgreSQL.

Each figure stands beside what it is compared with, measured in the same run on the same rows. ``--sqlite N`` and
``--postgresql N`` choose other sizes (0 leaves one out). Ten million take about half an hour and 25 GB.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import machine
from tests.product import ROOT, installed, postgresql_database


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sqlite", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--postgresql", type=int, default=10_000_000, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.sqlite:
            _bench("SQLite", Path(folder) / "sqlite", "", options.sqlite)
        if options.postgresql and machine.postgresql():
            with postgresql_database(machine.postgresql()) as url:
                _bench("PostgreSQL", Path(folder) / "postgresql", url, options.postgresql)
    return 0


def _bench(name: str, data: Path, url: str, events: int) -> None:
    with installed(data, database_url=url) as product:
        _say(f"\n== {name}, {events:,} events ==")
        command = [sys.executable, "-m", "tests.bench_trail_inside", str(events)]
        environment = {**product.environment, "DJANGO_SETTINGS_MODULE": "compliance_bot.settings"}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


def _say(sentence: str) -> None:
    sys.stdout.write(sentence + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
