"""Makes the virtual environment from the hashed lock file. Needs nothing but Python's standard library.

    python3 deploy/bootstrap.py [dev]

A stamp in the environment remembers which lock it was made from, so a second call takes milliseconds.
Written for Python 3.6, so that an old one gets a sentence and not a syntax error.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from typing import NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
DATA = os.environ.get("DATA_DIR", os.path.join(ROOT, "var"))


def main() -> None:
    require_python()
    require_writable(ROOT)
    require_writable(DATA)
    lock = os.path.join(ROOT, "deploy", "requirements-dev.txt" if "dev" in sys.argv[1:] else "requirements.txt")
    with open(lock, "rb") as stream:
        wanted = os.path.basename(lock) + " " + hashlib.sha256(stream.read()).hexdigest()
    if wanted not in stamps():
        make_environment()
        install(lock)
        with open(os.path.join(VENV, "stamp"), "a") as stream:
            stream.write(wanted + "\n")


def require_python() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before the right Python is sure
        found = f"{sys.version_info[0]}.{sys.version_info[1]}"
        stop(f"Python 3.11 or newer is needed; this is {found}. Install it, then: make run PYTHON=python3.11")
    try:
        import ensurepip  # noqa: F401 - Debian ships it separately
        import venv  # noqa: F401
    except ImportError:
        stop("Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv")


def require_writable(path: str) -> None:
    try:
        os.makedirs(path, exist_ok=True)
        probe = os.path.join(path, f".probe-{os.getpid()}")
        with open(probe, "w"):
            os.unlink(probe)
    except OSError as error:
        stop(f"{path} cannot be written ({error.strerror}). Give this user the folder, or set DATA_DIR to another.")


def stamps() -> list[str]:
    """The locks that this environment holds; none where its Python is gone or the wrong one."""
    try:
        with open(os.path.join(VENV, "stamp")) as stream:
            found = stream.read().splitlines()
        subprocess.run([PYTHON, "-c", ""], check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return found


def make_environment() -> None:
    if os.path.exists(PYTHON) and os.path.exists(os.path.join(VENV, "stamp")):
        return
    print("Making the virtual environment ...", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    run([sys.executable, "-m", "venv", VENV], "The virtual environment could not be made")


def install(lock: str) -> None:
    print("Installing dependencies (hashes checked) ...", flush=True)
    command = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock]
    run(command, "The dependencies could not be installed; is there a connection to the package index?")


def run(command: list[str], failure: str) -> None:
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        stop(failure)


def stop(sentence: str) -> NoReturn:
    sys.stderr.write(sentence + "\n")
    raise SystemExit(1)


if __name__ == "__main__":
    main()
