"""Replies of a real agent, which runs here without ssh, and boards that replay them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from adq_edge.remote import bench_job, jobs, ssh
from adq_edge.remote.board import Board
from adq_edge.remote.jobs import Job, Step
from factories import replayed_board
from factories.sshd import open_board


def local_ssh(folder: Path, copy: bool = False) -> Path:
    """Return a stand-in for ssh that runs the command here, in `folder/home`, and may copy its output."""
    (folder / "home").mkdir(parents=True)
    script = 'for command; do :; done\nexport HOME="{}"\n'.format(folder / "home")
    script += (
        'sh -c "$command" | tee -a "{}"\n'.format(folder / "copy") if copy else 'exec sh -c "$command"\n'
    )
    path = folder / "ssh"
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)
    return path


def record_replies(folder: Path, results: Sequence[Path], monkeypatch: Any) -> Dict[str, bytes]:
    """Run a job with some result files through a real agent; return its replies by request."""
    command = local_ssh(folder, copy=True)
    asked: List[str] = []
    ask = Board.ask

    def note(board: Board, do: str, *given: Any, **request: Any) -> Any:
        asked.append(f"{do}-started" if do == "poll" and "start" in asked else do)
        return ask(board, do, *given, **request)

    files = {f"{bench_job.RESULTS}/{path.name}": path for path in results}
    with monkeypatch.context() as patched:
        patched.setenv(ssh.SSH_VARIABLE, str(command))
        patched.setattr(Board, "ask", note)
        patched.setattr(jobs, "_FIRST_PAUSE", 0.5)
        with open_board("board", lambda progress: None, threading.Event()) as board:
            jobs.run_job(board, Job("bench", files, (Step("bench", (("true",),)),)), bench_job.RESULTS)
    replies = _split((folder / "copy").read_bytes(), asked)
    # As on a board that has the files: the hashes of another run's files would not be valid.
    return {"greeting": replayed_board.GREETING, **replies, "missing": b'{"missing": [], "bytes": 0}\n'}


def _split(stream: bytes, asked: Sequence[str]) -> Dict[str, bytes]:
    replies = {}
    stream = stream[stream.index(b"\n") + 1 :]  # the greeting
    for do in asked:
        line, _, rest = stream.partition(b"\n")
        size = ssh.Content.parse("board", line).integer("bytes", len(rest))
        replies[do], stream = line + b"\n" + rest[:size], rest[size:]
    return replies


def write_board(folder: Path, host: str, replies: Mapping[str, bytes]) -> None:
    """Write the files for a board that replays replies."""
    (folder / host).mkdir(parents=True)
    for name, content in replies.items():
        (folder / host / name).write_bytes(content)


def replaying_command(folder: Path) -> str:
    """Return the value of ADQ_EDGE_SSH that connects to the boards in a folder."""
    return f"{sys.executable} -I -S {replayed_board.__file__} {folder}"
