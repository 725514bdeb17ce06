"""Result files of a board: only valid ones of the run's own engines are kept, and are shown safely."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from adq_edge.cli.bench import boards_output
from adq_edge.cli.output import OutputOptions, show_output
from adq_edge.hardware.doctor import diagnose
from adq_edge.remote.bench import BoardResult
from adq_edge.remote.results import DIAGNOSIS, ExpectedEngine, ResultFiles, write_results
from adq_edge.report.report import report
from factories import results as make
from factories.boards import PC, Programs, write_tree

ENGINE = ExpectedEngine("tiny", make.digest("stfpm-parts"))
BENCH, EVAL = "tiny.bench.json", "tiny.eval.json"
UNSAFE = "\x1b]0;title\x07\x1b[2J\u202e\x9b31m\ud800\r\n<script>alert(1)</script><img src=x>"
LATENCY = ("engines", 0, "single_stream", "latency")
P50 = (*LATENCY, "p50_ms")
SHA256 = ("engines", 0, "model_sha256")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, bytes]:
    """Return the result files of a run with one engine."""
    folder = tmp_path_factory.mktemp("board")
    measured = make.engine("int8", name="tiny", board=make.recording(seconds=1.0))
    make.write(folder / "results", make.bench_report([measured]))
    diagnose(write_tree(folder / "tree", PC), Programs()).write(folder / "results" / DIAGNOSIS)
    return {path.name: path.read_bytes() for path in (folder / "results").iterdir()}


def write(files: Dict[str, bytes], folder: Path) -> ResultFiles:
    return write_results("board", files, [ENGINE], folder)


def changed(content: bytes, path: Tuple[Any, ...], value: Any) -> bytes:
    """Return a JSON text with another value at a path; a Raw value is written as it is."""
    document = json.loads(content)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = "@RAW@" if isinstance(value, bytes) else value
    return json.dumps(document).encode().replace(b'"@RAW@"', value if isinstance(value, bytes) else b"")


@pytest.mark.parametrize(
    ("name", "path", "value", "reason"),
    [
        (BENCH, ("engines", 0, "name"), "other", "it is of other of model"),
        (BENCH, ("engines", 0, "name"), "../../tiny", "it is of "),
        (BENCH, SHA256, "f" * 64, "of model ffffffffffff, not of tiny"),
        (BENCH, ("quick",), True, "of a quick run"),
        (BENCH, ("engines",), [], "has no engine"),
        (BENCH, ("schema",), "adq-edge/eval", "not an adq-edge/bench file"),
        *((BENCH, ("version",), version, "version is") for version in (1, 4, "3", [3], 3.0, True, None)),
        *((BENCH, P50, odd, "impossible") for odd in (-1.0, 0, -0.0, 1e308, 1e12, 1e6)),
        *((BENCH, P50, odd, "not a number|p50_ms") for odd in ("13.0", True, None, [13.0], {})),
        *((BENCH, P50, odd, "not a JSON file") for odd in (b"1e400", b"NaN", b"-Infinity", b"9" * 5000)),
        (BENCH, (*LATENCY, "p99_ms"), 0.01, "impossible"),
        (BENCH, (*LATENCY, "mean_ms"), 1e9, "impossible"),
        (BENCH, (*LATENCY, "count"), 0, "impossible"),
        (BENCH, (*LATENCY, "count"), 1500.0, "not a whole number"),
        (BENCH, (*LATENCY, "quantiles_ms", 7), 1e5, "impossible"),
        (BENCH, (*LATENCY, "p50_interval_ms", "high"), 1e308, "impossible"),
        (BENCH, ("engines", 0, "end_to_end", "decode", "p90_ms"), -1.0, "impossible"),
        (BENCH, ("engines", 0, "load_ms"), 1e308, "impossible"),
        (BENCH, ("settings", "seconds"), 1e308, "has a number above"),
        (EVAL, ("engine", "name"), "engines/other.onnx", "it is of other"),
        (EVAL, ("model_sha256",), "f" * 64, "of model ffffffffffff, not of tiny"),
        (EVAL, ("image_auroc",), 1.01, "not 0 to 1"),
        (EVAL, ("scores",), [["image", "good"]], "not"),
    ],
)
def test_record_of_another_engine_or_with_impossible_values_is_refused(
    files: Dict[str, bytes], tmp_path: Path, name: str, path: Tuple[Any, ...], value: Any, reason: str
):
    written = write({**files, name: changed(files[name], path, value)}, tmp_path / "board")
    assert {path.name for path in (tmp_path / "board").iterdir()} == set(files) - {name}
    with pytest.raises(type(written.problem), match=rf"result file {name} is not valid: .*({reason})"):
        raise written.problem


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b"{", b'{"run": "a", ', 1),  # a key twice
        lambda content: content.decode().encode("utf-16"),
        lambda content: content + content,
        lambda content: content[:-3],
        lambda content: b"",
        lambda content: b"[" + content + b"]",
        lambda content: content.replace(b'"engines": [', b'"engines": [{"name": "tiny"}, ', 1),
    ],
)
def test_damaged_result_file_is_refused(files: Dict[str, bytes], tmp_path: Path, change):
    written = write({**files, BENCH: change(files[BENCH])}, tmp_path / "board")
    assert written.problem is not None
    assert not (tmp_path / "board" / BENCH).exists()
    assert written.evaluations


def test_result_files_with_other_line_breaks_or_a_byte_order_mark_are_read(
    files: Dict[str, bytes], tmp_path: Path
):
    crlf = {name: content.replace(b"\n", b"\r\n") for name, content in files.items()}
    assert write(crlf, tmp_path / "crlf").problem is None
    marked = {name: b"\xef\xbb\xbf" + content for name, content in files.items()}
    assert write(marked, tmp_path / "marked").problem is None


def with_unsafe_texts(value: Any, kept: Tuple[str, ...]) -> Any:
    """Return a JSON value with an unsafe text after every text, but not in the fields `kept`."""
    if isinstance(value, dict):
        return {k: v if k in kept else with_unsafe_texts(v, kept) for k, v in value.items()}
    if isinstance(value, list):
        return [with_unsafe_texts(item, kept) for item in value]
    return value + UNSAFE if isinstance(value, str) else value


def test_texts_of_a_board_are_shown_without_control_characters_and_markup(
    files: Dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    kept = ("schema", "name", "model_sha256", "offline_end", "sha256", "product", "status", "state", "rule")
    unsafe = {
        name: json.dumps(with_unsafe_texts(json.loads(content), kept)).encode()
        for name, content in files.items()
    }
    written = write(unsafe, tmp_path / "board")
    assert written.problem is None
    result = BoardResult("board", written.benchmarks, written.evaluations, written.diagnosis, True)
    output = boards_output([result])
    assert output.exit_code == 0
    show_output(output, OutputOptions(as_json=False, verbose=True, quiet=False))
    show_output(output, OutputOptions(as_json=True, verbose=False, quiet=False))
    shown = capsys.readouterr()
    assert all(letter.isprintable() or letter == "\n" for letter in shown.out + shown.err)
    report([tmp_path / "board"], output=tmp_path / "report")
    pages = [path.read_text(encoding="utf-8") for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert not any(set(page) & set("\x1b\x07\x9b\u202e") for page in pages)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img" not in page
