"""The environment that every test runs in; loaded (-p) before Django reads its settings."""

import os
import tempfile

os.environ["ENVIRONMENT"] = "sandbox"
os.environ["SECRET_KEY"] = "only-for-tests-" * 4
os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="compliance-bot-tests-"))
