"""A stand-in for ssh that replays the recorded replies of a board's agent, some of them changed.

Run as `python replayed_board.py FOLDER [options of ssh] -- HOST COMMAND`. `FOLDER/HOST/` has a file with
the bytes of each reply, named by the request. `poll` is the reply before the job is started, `poll-started`
the one after it. A file that starts with a word of `ENDLESS` stands for what does not end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

PROGRESS = {"state": "running", "step": "bench", "code": 1, "done": 0, "total": 10**12, "bytes": 0}
GREETING = b"adq-edge agent on Python 3.8\n"
ENDLESS = (b"!silence", b"!flood", b"!messages", b"!drip")
LOST = b"!lost"
RISING = b"!rising"
"""The board says that the job makes progress, at each request anew."""


def reply(content: bytes) -> None:
    """Write the bytes of a reply, or never stop."""
    output = sys.stdout.buffer
    while content.startswith(b"!silence"):
        time.sleep(1)
    while content.startswith(b"!flood"):
        output.write(b"[" * 100_000)
    while content.startswith(b"!messages"):
        sys.stderr.buffer.write(b"\x1b[31m" * 20_000)
        sys.stderr.buffer.flush()
    while content.startswith(b"!drip"):
        output.write(b" ")
        output.flush()
        time.sleep(0.05)
    if content.startswith(LOST):
        sys.stderr.write("client_loop: send disconnect: Broken pipe\n")
        sys.exit(255)
    if content.startswith(RISING):
        content = json.dumps({**PROGRESS, "done": time.monotonic_ns() % 10**12}).encode() + b"\n"
    output.write(content)
    output.flush()


def main() -> None:
    folder = Path(sys.argv[1]) / sys.argv[-2]
    size = int(sys.argv[-1].rpartition("read(")[2].split(")")[0])
    reply((folder / "greeting").read_bytes())
    sys.stdin.buffer.read(size)
    started = False
    for line in sys.stdin.buffer:
        request = json.loads(line)
        sys.stdin.buffer.read(sum(length for _, length in request.get("items", ())))
        started = started or request["do"] == "start"
        reply((folder / (request["do"] + "-started" * (started and request["do"] == "poll"))).read_bytes())


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
