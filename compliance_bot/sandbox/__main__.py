"""python -m compliance_bot.sandbox: run the sandbox until it is told to stop."""

import argparse
import signal
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from compliance_bot.sandbox.server import DEFAULT_BACK, PortTaken, start


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https address")
    return text


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m compliance_bot.sandbox",
        description="A WeCom world and a news world on 127.0.0.1. Nothing sent here leaves this computer.",
    )
    parser.add_argument("--port", type=_port, default=8001, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--data", type=Path, required=True, help="folder that keeps the messages")
    parser.add_argument("--back", type=_address, default=DEFAULT_BACK, help="where the page links back to")
    parser.add_argument("--no-rate-limit", action="store_true", help="no 20 messages a minute, for benchmarks")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    arguments = _arguments(argv)
    asked_to_stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked_to_stop.set())
    try:
        sandbox = start(
            arguments.port,
            arguments.data,
            rate_limit=not arguments.no_rate_limit,
            back=arguments.back,
        )
    except PortTaken as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    except OSError as problem:
        sys.stderr.write(f"The sandbox cannot use {arguments.data}: {problem}. Choose a folder with --data.\n")
        return 1
    sys.stdout.write(f"sandbox on {sandbox.url}\n")
    sys.stdout.flush()
    asked_to_stop.wait()
    sandbox.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
