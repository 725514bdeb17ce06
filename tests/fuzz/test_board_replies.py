"""Boards that send changed replies: each costs one line, never a traceback, a hang or another board's run.

ADQ_EDGE_FUZZ_BOARDS sets the number of boards (default: 25); the seed is fixed, `..._SEED` sets another one.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import random
import re
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import psutil
import pytest
import typer

from adq_edge.cli.bench import boards_output
from adq_edge.cli.output import OutputOptions, show_output
from adq_edge.remote import board, channel, installation, jobs
from adq_edge.remote.bench import BoardResult, bench_remotely
from factories import results as make
from factories.boards import PC, Programs, write_tree
from factories.recorded_replies import record_replies, replaying_command, write_board
from factories.replayed_board import ENDLESS, LOST, PROGRESS, RISING
from factories.tiny_engine import MODEL_SHA256, write_engine

BOARDS = int(os.environ.get("ADQ_EDGE_FUZZ_BOARDS", "25"))
SEED = int(os.environ.get("ADQ_EDGE_FUZZ_BOARDS_SEED", "17"))
AT_ONCE = 25
HEALTHY = "healthy"
ESCAPES = "\x1b]0;title\x07\x1b[2J\u202e\ud800"
ODD: Tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**63, 10**30, -0.5, 1e308, "", "x", "../x", "/etc/passwd", ESCAPES),
    *("\0", "done", "a" * 5000, [], {}, [[]], [None], [["log", 3]], {"a": {}}, {"text": ESCAPES}),
)
RAW = (
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 3000 + b"]" * 3000, b'"\\ud800"', b'"\xff\xfe"'),
    *(b'"' + b"a" * 30_000 + b'"', b"", b"{", b"true false", b"[" + b"0," * 300_000 + b"0]"),
)


@pytest.fixture(scope="module")
def replies(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    """Return the replies of a run on a board with one engine, with every kind of result file."""
    from adq_edge.hardware.doctor import diagnose

    folder = tmp_path_factory.mktemp("recording")
    recording = make.recording(seconds=2.0)
    measured = dataclasses.replace(
        make.engine("int8", name="tiny", board=recording), model_sha256=MODEL_SHA256
    )
    make.write(folder / "results", make.bench_report([measured]))
    diagnose(write_tree(folder / "tree", PC), Programs()).write(folder / "results" / "doctor.json")
    with pytest.MonkeyPatch.context() as patched:
        return record_replies(folder / "board", sorted((folder / "results").iterdir()), patched)


@pytest.fixture
def engine(tmp_path: Path, replies: Dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an engine; what costs time on this machine is done once or not at all."""
    (tmp_path / "adq_edge.whl").write_bytes(b"a wheel")
    monkeypatch.setattr(installation, "write_wheel", lambda folder: tmp_path / "adq_edge.whl")
    monkeypatch.setattr(installation, "fetch_wheels", lambda lines, platform, folder: [])
    # Long enough for boards that start at the same time on a busy machine.
    monkeypatch.setattr(channel, "SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(channel, "_SLOWEST_SECONDS", 6.0)
    monkeypatch.setenv("ADQ_EDGE_SSH", replaying_command(tmp_path / "boards"))
    monkeypatch.chdir(tmp_path)
    return write_engine(tmp_path / "tiny.onnx")


def run(engine: Path, hosts: List[str], progress: bool = False) -> List[BoardResult]:
    return bench_remotely(hosts, [engine], device="cpu", patience=0.05, output="results", progress=progress)


def places(value: Any, path: Tuple[Any, ...] = ()) -> List[Tuple[Any, ...]]:
    """Return the paths of all values in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in list(inner)[:40] for place in places(part, (*path, key)))]


def change_json(chance: random.Random, content: bytes) -> bytes:
    """Replace, remove or add one value of a JSON text."""
    value = copy.deepcopy(json.loads(content))
    path = chance.choice(places(value)[1:])
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    kind = chance.randrange(4)
    if kind == 0 and isinstance(parent, dict):
        del parent[path[-1]]
    elif kind == 1 and isinstance(parent[path[-1]], (int, float)):
        parent[path[-1]] = -parent[path[-1]] * chance.choice((1, 1e9, 0))
    elif kind == 2:
        parent[path[-1]] = "@RAW@"
        return json.dumps(value).encode().replace(b'"@RAW@"', chance.choice(RAW))
    else:
        parent[path[-1]] = chance.choice(ODD)
    return json.dumps(value).encode()


def change_file(chance: random.Random, reply: bytes) -> bytes:
    """Change one result file of the reply to `fetch`, or its name; the sizes still agree."""
    line, _, payload = reply.partition(b"\n")
    header = json.loads(line)
    number = chance.randrange(len(header["files"]))
    name, size = header["files"][number]
    first = sum(length for _, length in header["files"][:number])
    content = payload[first : first + size]
    if chance.random() < 0.2 or name == "log":
        header["files"][number][0] = chance.choice((*(odd for odd in ODD if isinstance(odd, str)), name * 50))
        content = chance.choice((content, ESCAPES.encode("utf-8", "surrogatepass") * 1000))
    else:
        content = change_json(chance, content) if chance.random() < 0.8 else change_bytes(chance, content)
    header["files"][number][1] = len(content)
    payload = payload[:first] + content + payload[first + size :]
    return json.dumps({**header, "bytes": len(payload)}).encode() + b"\n" + payload


def change_bytes(chance: random.Random, content: bytes) -> bytes:
    kind, place = chance.randrange(4), chance.randrange(len(content))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
    if kind == 2:
        return content[:place] + chance.choice(RAW) + content[place:]
    return ESCAPES.encode("utf-8", "surrogatepass") + content


def change(chance: random.Random, replies: Dict[str, bytes]) -> Dict[str, bytes]:
    """Return the replies of a board with one of them changed."""
    name = chance.choice((*replies, "fetch", "fetch", "fetch"))
    line, end, payload = replies[name].partition(b"\n")
    kind = chance.random()
    if kind < 0.05:
        return {**replies, name: chance.choice(ENDLESS)}
    if name == "fetch" and kind < 0.7:
        return {**replies, name: change_file(chance, replies[name])}
    if name == "greeting" or kind < 0.3:
        return {**replies, name: change_bytes(chance, replies[name])}
    return {**replies, name: change_json(chance, line) + end + payload}


def test_healthy_board_is_measured_as_recorded(
    engine: Path, replies: Dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_board(tmp_path / "boards", HEALTHY, replies)
    (result,) = run(engine, [HEALTHY])
    assert result.problem is None
    names = {path.name for path in (*result.benchmarks, *result.evaluations)}
    assert names == {"tiny.bench.json", "tiny.eval.json"}
    assert result.diagnosis is not None


def test_board_that_never_stops_or_never_answers_ends_its_own_run_only(
    engine: Path, replies: Dict[str, bytes], tmp_path: Path
):
    hosts = {
        f"{word[1:].decode()}-{name}": {**replies, name: word}
        for word in ENDLESS
        for name in ("greeting", "describe", "poll-started", "fetch")
    }
    for host, changed in {**hosts, HEALTHY: replies}.items():
        write_board(tmp_path / "boards", host, changed)
    start, before = time.monotonic(), psutil.Process().memory_info().rss
    *results, healthy = run(engine, [*hosts, HEALTHY])
    assert time.monotonic() - start < 60
    assert psutil.Process().memory_info().rss - before < 300e6
    assert healthy.problem is None
    assert all(result.problem is not None for result in results)


def odd_boards(replies: Dict[str, bytes]) -> Iterator[Tuple[str, Dict[str, bytes], Optional[str]]]:
    """Yield boards that are no random changes: name, replies, and what is wrong; None for a healthy board."""
    running = json.dumps(PROGRESS).encode() + b"\n"
    queued = json.dumps({**PROGRESS, "state": "queued"}).encode() + b"\n"
    short = b'{"bytes": 0}\n' * 100_000
    banner = b"\x1b]0;jetson\x07Welcome to Ubuntu 20.04\r\n \xff\xfe\n"
    listing = json.loads(replies["fetch"].partition(b"\n")[0])
    twice = json.dumps({**listing, "files": [*listing["files"], listing["files"][0]]}).encode()
    yield "banner", {**replies, "greeting": banner + replies["greeting"]}, None
    yield "prompt-before", {**replies, "greeting": b"\x1b[1m$ " + replies["greeting"]}, None
    yield "crlf", {**replies, "greeting": replies["greeting"].replace(b"\n", b"\r\n")}, None
    yield "password", {**replies, "greeting": b"[sudo] password for jetson: "}, "after '.sudo. password for"
    yield "lines", {**replies, "greeting": 10 * short}, "prints too much text|no byte in 3 s"
    yield "menu", {**replies, "greeting": b"1) bash\n2) reboot\n" * 20_000}, "prints too much text"
    yield "python-2", {**replies, "greeting": b"adq-edge agent on Python 2.7\n"}, "is Python 2.7"
    for name in ("describe", "poll", "start", "poll-started", "fetch"):
        yield f"twice-{name}", {**replies, name: 2 * replies[name]}, "more bytes follow it"
        yield f"many-{name}", {**replies, name: replies[name] + short}, "more bytes follow it"
    for name in ("greeting", "describe", "missing", "start", "poll-started", "fetch", "end"):
        yield f"lost-{name}", {**replies, name: LOST}, "connect|lost"
    for word in (b"!drip", b"!silence"):
        odd = {"poll-started": b"[]\n", "end": word}
        yield (
            f"invalid-{word[1:].decode()}",
            {**replies, **odd},
            "it is not a JSON object.* may continue, for",
        )
    yield "running", {**replies, "poll-started": running}, "no progress for .*'bench'"
    yield "rising", {**replies, "poll-started": RISING}, "was ended after .*'bench'"
    yield "queued", {**replies, "poll-started": queued}, "was ended after"
    yield (
        "same-files",
        {**replies, "fetch": replies["fetch"].replace(replies["fetch"].partition(b"\n")[0], twice)},
        ("'files' cannot be"),
    )
    for number, text in enumerate((b"[]", b"null", b'"text"', b"1", b'{"bytes": -0.0}', b'{"bytes": "0"}')):
        yield f"json-{number}", {**replies, "describe": text + b"\n"}, "reply is not valid"


def test_odd_boards_end_with_their_own_error_and_do_not_disturb_others(
    engine: Path,
    replies: Dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(jobs, "STALLED_SECONDS", 2.0)
    monkeypatch.setattr(jobs, "LONGEST_SECONDS", 4.0)
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.2)
    monkeypatch.setattr(board, "_STOP_SECONDS", 1.0)
    boards = list(odd_boards(replies))
    for host, changed, _ in boards:
        write_board(tmp_path / "boards", host, changed)
    write_board(tmp_path / "boards", HEALTHY, replies)
    start, before = time.monotonic(), psutil.Process().memory_info().rss
    *results, healthy = run(engine, [*(host for host, _, _ in boards), HEALTHY], progress=True)
    assert time.monotonic() - start < 60
    assert psutil.Process().memory_info().rss - before < 300e6
    assert healthy.problem is None
    assert not list((tmp_path / "results").glob("*/fault.log"))
    shown = {result.host: str(result.problem) for result in results}
    wrong = {
        host: shown[host] for host, _, reason in boards if not re.search(reason or "^None$", shown[host])
    }
    assert not wrong
    assert all(letter.isprintable() or letter == "\n" for letter in capsys.readouterr().err)


@pytest.mark.parametrize("batch", range((BOARDS + AT_ONCE - 1) // AT_ONCE))
def test_changed_replies_cost_one_line_and_only_their_board(
    engine: Path, replies: Dict[str, bytes], tmp_path: Path, batch: int, capsys: pytest.CaptureFixture[str]
):
    chance = random.Random(SEED * 1_000_003 + batch)
    hosts = [f"board-{number}" for number in range(min(AT_ONCE, BOARDS - AT_ONCE * batch))]
    for host in hosts:
        write_board(tmp_path / "boards", host, change(chance, replies))
    write_board(tmp_path / "boards", HEALTHY, replies)
    start, before = time.monotonic(), psutil.Process().memory_info().rss
    *results, healthy = run(engine, [*hosts, HEALTHY])
    assert time.monotonic() - start < 60
    assert psutil.Process().memory_info().rss - before < 500e6
    assert healthy.problem is None
    assert len(healthy.benchmarks) == len(healthy.evaluations) == 1
    assert {path.name for path in (tmp_path / "results").iterdir()} <= {*hosts, HEALTHY}
    faults = [path.read_text()[-2000:] for path in (tmp_path / "results").glob("*/fault.log")]
    assert not faults, faults[0]
    problems = [str(result.problem) for result in results if result.problem is not None]
    assert all(len(problem) < 3000 and problem.isprintable() for problem in problems)
    output = boards_output([*results, healthy])
    with contextlib.suppress(typer.Exit):
        show_output(output, OutputOptions(as_json=False, verbose=False, quiet=False))
    shown = capsys.readouterr()
    assert output.exit_code == (2 if problems else 0)
    assert "Traceback" not in shown.out + shown.err
    assert all(letter.isprintable() or letter == "\n" for letter in shown.out + shown.err)
