"""``manage.py check --deploy`` as production would see it, with warnings counted as failures."""

import os
import subprocess
import sys
import tempfile


def main() -> int:
    with tempfile.TemporaryDirectory() as data:
        production = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "compliance.example", "DATA_DIR": data}
        kept = {name: value for name, value in os.environ.items() if name not in {"SECRET_KEY", "DATABASE_URL"}}
        command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
        return subprocess.run(command, env={**kept, **production}, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
