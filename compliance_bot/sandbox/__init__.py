"""A WeCom world and a news world on loopback: for a newcomer's first run, and for tests.

The sandbox is a process of its own that imports the standard library only (and a cipher, for callbacks), so that it
is a real server on the other side of a real socket and outlives whatever happens to the product. It binds 127.0.0.1
and nothing else.

In a shell:    python -m compliance_bot.sandbox --port 8001 --data DIR
In a test:     sandbox = start(0, tmp_path); sandbox.url; sandbox.wecom.messages(); sandbox.stop()
"""

from compliance_bot.sandbox.server import PortTaken, Sandbox, start

__all__ = ["PortTaken", "Sandbox", "start"]
