"""The environment every test runs in. It is set before Django reads its settings."""

import os

os.environ["ENVIRONMENT"] = "sandbox"
os.environ.setdefault("SECRET_KEY", "only-for-tests-" * 4)
