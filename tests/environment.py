"""The environment that every test runs in; loaded (-p) before Django reads its settings."""

import os
import tempfile

import hypothesis

os.environ["ENVIRONMENT"] = "sandbox"
os.environ["SECRET_KEY"] = "only-for-tests-" * 4
os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="compliance-bot-tests-"))

# Speeds belong to `make bench`; a busy machine is no counterexample.
hypothesis.settings.register_profile("house", deadline=None, print_blob=True)
hypothesis.settings.load_profile("house")
