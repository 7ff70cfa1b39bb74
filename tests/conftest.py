"""What every test may rely on."""

import signal
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import translation

from audit import triggers as events
from compliance_bot.guardrails import policy
from compliance_bot.sandbox.server import Sandbox
from tests import world
from workflows import triggers as decisions


def pytest_configure() -> None:
    """Slow password hashes and a manifest of static files are for production."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Short plain names for test cases: some values are megabytes long, or no valid Unicode."""
    return ascii(val)[1:61] if isinstance(val, str) else None


@pytest.fixture(autouse=True)
def own_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and secrets of one test are not another's."""
    monkeypatch.setattr(settings, "DATA_DIR", tmp_path / "data")
    monkeypatch.setattr(settings, "AUDIT_CHECKPOINT_FILE", tmp_path / "data" / "checkpoints.jsonl")
    monkeypatch.setattr(settings, "AUDIT_ARCHIVE_DIR", tmp_path / "data" / "archive")
    monkeypatch.setattr(settings, "AUDIT_EXPORT_DIR", tmp_path / "data" / "exports")
    monkeypatch.setattr(settings, "AUDIT_REPORT_DIR", tmp_path / "data" / "reports")
    (tmp_path / "data").mkdir()


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """What one test's visitor chose is not the next one's language."""
    with translation.override("en"):
        yield


@pytest.fixture
def patience() -> Iterator[None]:
    """For input on which a careless algorithm takes minutes, not fractions of a second: it ends, or the test fails."""

    def lost(*_: object) -> None:
        raise TimeoutError("took more than a minute: the cost grows faster than the input")

    before = signal.signal(signal.SIGALRM, lost)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def set_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts another policy file into force for one test."""
    numbers = count()

    def put(text: str) -> None:
        path = tmp_path / f"policy-{next(numbers)}.yaml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setattr(settings, "POLICY_FILE", path)

    return put


@pytest.fixture(autouse=True)
def policy_of_this_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one test, or the transaction that ends with it, puts into force is not the next one's policy."""
    monkeypatch.setattr(policy, "REFRESH_SECONDS", 0.0)
    policy.forget()


@pytest.fixture
def wecom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with world.wecom(tmp_path / "wecom", monkeypatch) as sandbox:
        yield sandbox


@pytest.fixture
def committed(transactional_db: None) -> Iterator[None]:
    """Real commits, for tests with several connections. The guards that keep decisions and events would keep the
    test's own clean-up out too, so they are lifted for that; the clean-up's migration signal puts them back."""
    yield
    for guards in (decisions.GUARDS, events.GUARDS):
        guards.remove(connection)
