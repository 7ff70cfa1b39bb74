"""The secret stores: what they keep, what they refuse, and that no error tells a value."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from compliance_bot.guardrails import secrets
from compliance_bot.guardrails.secrets import (
    SecretInvalid,
    SecretMissing,
    SecretReadOnly,
    SecretStoreUnsafe,
    SecretUnreadable,
)
from compliance_bot.guardrails.secrets.local import LocalStore, new_key

VALUE = "693a91f6-7xxx-4bc4-97a0-0ec2sifa5aaa"


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    settings.DATA_DIR = tmp_path / "store"  # not there yet, as on a first start
    return tmp_path / "store"


@pytest.fixture
def local(folder: Path) -> LocalStore:
    store = secrets.get("local")
    assert isinstance(store, LocalStore)
    return store


def every_text_of(error: BaseException) -> str:
    """All that a log could show of an exception and what led to it."""
    texts = []
    chain: BaseException | None = error
    while chain is not None:
        texts += [str(chain), repr(chain), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    return "\n".join(texts)


def test_the_stores_announce_themselves_and_an_unknown_kind_names_them() -> None:
    assert {"environment", "local"} <= {store.kind for store in secrets.stores()}
    with pytest.raises(LookupError, match=r"no secret store of kind 'safe' .*environment.*local"):
        secrets.get("safe")


def test_two_stores_of_one_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="two secret stores are called 'local'"):
        secrets.register(LocalStore)


def test_a_value_is_read_back_replaced_and_deleted(local: LocalStore) -> None:
    local.write("robot.sales", VALUE)
    local.write("other", "密钥 🔑\n\0")
    assert (local.read("robot.sales"), local.read("other")) == (VALUE, "密钥 🔑\n\0")
    local.write("robot.sales", "second")
    assert local.read("robot.sales") == "second"
    local.delete("robot.sales")
    with pytest.raises(SecretMissing, match=r"There is no secret called 'robot.sales': store it first") as caught:
        local.read("robot.sales")
    assert caught.value.name == "robot.sales"
    assert local.read("other") == "密钥 🔑\n\0"


def test_deleting_what_is_not_there_says_so(local: LocalStore) -> None:
    with pytest.raises(SecretMissing):
        local.delete("robot")


def test_the_files_are_for_their_owner_only_and_hold_no_value(local: LocalStore, folder: Path) -> None:
    before = os.umask(0)
    try:
        local.write("robot", VALUE)
    finally:
        os.umask(before)
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == {"secret-store.key", "secret-store.lock", "secrets.json"}
    assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(VALUE.encode() not in path.read_bytes() for path in files.values())


def test_the_key_is_created_once(local: LocalStore, folder: Path) -> None:
    local.write("one", VALUE)
    key = (folder / "secret-store.key").read_bytes()
    local.write("two", VALUE)
    local.delete("one")
    local.delete("two")
    local.write("three", VALUE)
    assert (folder / "secret-store.key").read_bytes() == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o620, 0o601])
def test_a_key_file_that_others_can_touch_is_refused(local: LocalStore, folder: Path, mode: int) -> None:
    local.write("robot", VALUE)
    (folder / "secret-store.key").chmod(mode)
    with pytest.raises(SecretStoreUnsafe, match=r"open to other users: run 'chmod 600 .*secret-store.key'"):
        local.read("robot")
    with pytest.raises(SecretStoreUnsafe):
        local.write("robot", "new")
    (folder / "secret-store.key").chmod(0o600)
    assert local.read("robot") == VALUE


def test_rotation_reads_with_the_old_key_and_writes_with_the_new(local: LocalStore, folder: Path) -> None:
    local.write("old", "o")
    key_file = folder / "secret-store.key"
    old, new = key_file.read_text().strip(), new_key()
    key_file.write_text(f"{new}\n\n{old}\n")
    local.write("new", "n")
    assert (local.read("old"), local.read("new")) == ("o", "n")
    key_file.write_text(new)
    assert local.read("new") == "n"
    with pytest.raises(SecretUnreadable):
        local.read("old")


def test_reencryption_makes_the_old_key_dispensable(local: LocalStore, folder: Path) -> None:
    assert local.reencrypt() == 0
    local.write("a", "1")
    local.write("b", "2")
    key_file = folder / "secret-store.key"
    new = new_key()
    key_file.write_text(f"{new}\n{key_file.read_text()}")
    assert local.reencrypt() == 2
    key_file.write_text(new)
    assert (local.read("a"), local.read("b")) == ("1", "2")


def test_a_wrong_key_is_told_with_a_remedy_and_without_the_key(local: LocalStore, folder: Path) -> None:
    local.write("robot", VALUE)
    wrong = new_key()
    (folder / "secret-store.key").write_text(wrong)
    with pytest.raises(SecretUnreadable, match=r"'robot' was sealed with another key .*restore .*key") as caught:
        local.read("robot")
    assert wrong not in every_text_of(caught.value)


def test_a_lost_key_is_not_replaced_while_values_need_it(local: LocalStore, folder: Path) -> None:
    local.write("robot", VALUE)
    (folder / "secret-store.key").unlink()
    with pytest.raises(SecretUnreadable, match="is missing: restore it from a backup"):
        local.read("robot")
    with pytest.raises(SecretUnreadable, match="is missing"):
        local.write("another", VALUE)
    assert not (folder / "secret-store.key").exists()


def test_a_line_that_is_no_key_is_named_by_its_number_only(local: LocalStore, folder: Path) -> None:
    local.write("robot", VALUE)
    (folder / "secret-store.key").write_text(f"{new_key()}\nGZq1-almost-a-key\n")
    with pytest.raises(SecretUnreadable, match=r"Line 2 of .* is not a key") as caught:
        local.read("robot")
    assert "GZq1" not in every_text_of(caught.value)


def test_an_empty_key_file_is_told(local: LocalStore, folder: Path) -> None:
    local.write("robot", VALUE)
    (folder / "secret-store.key").write_text("\n")
    with pytest.raises(SecretUnreadable, match="holds no key"):
        local.read("robot")


def test_a_secret_cannot_be_passed_off_as_another(local: LocalStore, folder: Path) -> None:
    local.write("harmless", "h")
    local.write("precious", VALUE)
    tokens = json.loads((folder / "secrets.json").read_text())
    (folder / "secrets.json").write_text(json.dumps({"harmless": tokens["precious"]}))
    with pytest.raises(SecretUnreadable):
        local.read("harmless")


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"robot": 1}', b"\xff\xfe", b'{"robot": "gAAAA"}', b'{"robot": "\xc3\xa9"}'],
)
def test_a_damaged_file_is_told_and_never_overwritten(local: LocalStore, folder: Path, damage: bytes) -> None:
    local.write("robot", VALUE)
    (folder / "secrets.json").write_bytes(damage)
    with pytest.raises(SecretUnreadable, match=r"damaged.*restore"):
        local.read("robot")
    if damage.startswith(b'{"robot": "'):
        return  # one value is damaged, the file is not: another one may still be stored
    with pytest.raises(SecretUnreadable):
        local.write("another", VALUE)
    assert (folder / "secrets.json").read_bytes() == damage


def test_a_failed_write_leaves_the_old_values_and_no_rubbish(
    local: LocalStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write("robot", VALUE)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            local.write("robot", "new")
    assert local.read("robot") == VALUE
    assert {path.name for path in folder.iterdir()} == {
        "secret-store.key",
        "secret-store.lock",
        "secrets.json",
    }


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "_a", "a b", "a/b", "../a", "ä", "a\n", "a" * 101])
@pytest.mark.parametrize("kind", ["local", "environment"])
@pytest.mark.usefixtures("folder")
def test_other_names_are_refused(kind: str, name: str) -> None:
    with pytest.raises(SecretInvalid, match="is not a name for a secret"):
        secrets.get(kind).read(name)


def test_the_longest_name_and_the_largest_value_fit(local: LocalStore) -> None:
    name, value = "a" * 100, "密" * 21845 + "x"  # 65 536 bytes
    local.write(name, value)
    assert local.read(name) == value
    with pytest.raises(SecretInvalid, match="65537 bytes; at most 65536"):
        local.write(name, value + "y")


@pytest.mark.parametrize("value", ["", f"{VALUE}\ud800"])
def test_a_value_that_is_empty_or_no_text_is_refused_without_being_told(local: LocalStore, value: str) -> None:
    with pytest.raises(SecretInvalid) as caught:
        local.write("robot", value)
    assert VALUE not in every_text_of(caught.value)


_WRITER = """
import sys
from pathlib import Path
from django.conf import settings
settings.configure(DATA_DIR=Path(sys.argv[1]))
from compliance_bot.guardrails import secrets
print("ready", flush=True)
sys.stdin.readline()  # all start together
for number in range(20):
    secrets.get("local").write(f"{sys.argv[2]}.{number}", f"{sys.argv[2]} {number}")
"""


def test_processes_that_write_at_once_lose_no_update(local: LocalStore, folder: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(folder), f"writer{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 4
    for writer_number in range(4):
        for number in range(20):
            assert local.read(f"writer{writer_number}.{number}") == f"writer{writer_number} {number}"


def test_the_environment_is_read_by_a_name_made_of_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_ROBOT_SALES_KEY", VALUE)
    assert secrets.get("environment").read("robot.sales-key") == VALUE


@pytest.mark.parametrize("value", [None, ""])
def test_a_variable_that_is_not_set_or_empty_is_a_missing_secret(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv("SECRET_ROBOT", raising=False)
    if value is not None:
        monkeypatch.setenv("SECRET_ROBOT", value)
    with pytest.raises(SecretMissing, match="set the variable SECRET_ROBOT and restart"):
        secrets.get("environment").read("robot")


@pytest.mark.parametrize("name", ["key", "key_file", "key-file", "key.file", "key.fallbacks"])
def test_djangos_own_key_is_nobodys_secret(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SECRET_KEY", VALUE)
    monkeypatch.setenv("SECRET_KEY_FILE", VALUE)
    monkeypatch.setenv("SECRET_KEY_FALLBACKS", VALUE)
    with pytest.raises(SecretMissing, match="belongs to the product itself"):
        secrets.get("environment").read(name)


def test_the_environment_is_not_written() -> None:
    store = secrets.get("environment")
    assert not store.writable
    with pytest.raises(SecretReadOnly, match="only read here"):
        store.write("robot", VALUE)
    with pytest.raises(SecretReadOnly):
        store.delete("robot")
