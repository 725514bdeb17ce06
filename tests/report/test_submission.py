"""`bench --submit`: a file that names nobody, refuses edited values, and stands beside other results."""

from __future__ import annotations

import dataclasses
import enum
import json
import typing
from pathlib import Path
from typing import Any, Iterator, List, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.artifacts import workspace
from adq_edge.benchmark import bench as benching
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.cli.bench import boards_output
from adq_edge.core.errors import AdqError, ResultError, StorageError
from adq_edge.hardware.doctor import Diagnosis, diagnose
from adq_edge.remote.bench import BoardResult
from adq_edge.report import submit
from adq_edge.report.report import report
from adq_edge.report.submission import Submission
from adq_edge.report.submit import check_board, make_submission, write_submission
from factories import results as make
from factories.boards import Programs
from factories.command_line import run_cli
from factories.submissions import NX, collect, run_on_board


def test_submission_has_the_figures_of_the_board():
    run = run_on_board()
    found = make_submission(collect(run), NX)
    board = found.board
    assert (board.name, board.module, board.jetpack, board.l4t) == (
        *("Jetson Xavier NX", "p3668-0001"),
        *("5.1.2", "35.4.1"),
    )
    assert (board.mode, board.before.clocks_locked, board.packages["tensorrt"]) == (
        "MODE_20W_6CORE",
        True,
        "8.5.2",
    )
    assert [engine.name for engine in found.engines] == ["stfpm-fp32", "stfpm-int8"]
    assert [engine.model for engine in found.engines] == [1, 1]
    measured = run.engines[1]
    int8 = found.engines[1]
    assert int8.single_stream == measured.single_stream
    assert int8.sensors.energy.joules_per_image == measured.recording.energy.joules_per_image
    assert int8.sensors.throttled is True
    assert int8.layers == {"INT8": 31, "FP32": 12}
    assert int8.ratio.latency_ratio == measured.comparison.latency_ratio
    assert (int8.quality.images, int8.quality.image_auroc, int8.quality.map_snr_db) == (60, 0.9858, 30.2)


def leaves(value: Any, place: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """Yield the place of each text in a record: fields, positions and keys of dictionaries."""
    if dataclasses.is_dataclass(value):
        for name, part in vars(value).items():
            yield from leaves(part, (*place, name))
    elif isinstance(value, dict):
        for key, part in value.items():
            yield (*place, ("key", key))
            yield from leaves(part, (*place, key))
    elif isinstance(value, tuple):
        for position, part in enumerate(value):
            yield from leaves(part, (*place, position))
    elif isinstance(value, str) and not isinstance(value, enum.Enum):
        yield place


def planted(value: Any, place: Tuple[Any, ...], secret: str) -> Any:
    """Return a record with a secret added to the text at a place."""
    if not place:
        return secret.replace("*", value)
    first, *rest = place
    if dataclasses.is_dataclass(value):
        changed = planted(getattr(value, first), tuple(rest), secret)
        return dataclasses.replace(value, **{first: changed})
    if isinstance(value, tuple):
        return (*value[:first], planted(value[first], tuple(rest), secret), *value[first + 1 :])
    if isinstance(first, tuple):
        return {(secret.replace("*", key) if key == first[1] else key): one for key, one in value.items()}
    return {**value, first: planted(value[first], tuple(rest), secret)}


WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=12)
SECRETS = st.one_of(
    WORDS,
    WORDS.map("/home/{}/engines/lid.plan".format),
    WORDS.map("{}@plant.example".format),
    st.lists(st.integers(17, 255), min_size=6, max_size=6).map(lambda p: ":".join(f"{b:02x}" for b in p)),
    st.lists(st.integers(100, 255), min_size=4, max_size=4).map(lambda p: ".".join(map(str, p))),
    st.integers(10**12, 10**13 - 1).map(str),
)
PLACES = ("{}", "* {}", "{} *", "*{}", "{}*", "*-{}", "*_{}", "* + {}", "NVIDIA {}", "*.{}")


def is_written(secret: str, run: BenchmarkReport) -> bool:
    try:
        return secret in json.dumps(make_submission(collect(run), NX).document())
    except (AdqError, ValueError):
        return False  # nothing is written


@settings(deadline=None, max_examples=40)
@given(st.data(), SECRETS, st.sampled_from(PLACES))
def test_secret_in_any_text_does_not_come_through(data: st.DataObject, secret: str, place: str):
    run = run_on_board()
    where = data.draw(st.sampled_from(list(leaves(run))))
    assert not is_written(secret, planted(run, where, place.format(secret)))


@pytest.mark.parametrize(
    ("secret", "place"),
    [
        *(("annaslaptop", "{}"), ("192.168.117.201", "* {}"), ("48:b0:2d:aa:bb:cc", "*_{}")),
        *(("1421219012345", "{} *"), ("/home/anna/lid", "*-{}")),
    ],
)
def test_secret_in_every_text_at_once_does_not_come_through(secret: str, place: str):
    """Texts without which there is no submission are planted apart, by the test of any text."""
    needed = {
        ("environment", "board"),
        ("settings", "device"),
        *[("engines", i, "precision") for i in (0, 1)],
    }
    run = run_on_board()
    for where in leaves(run):
        if where not in needed and not isinstance(where[-1], tuple):
            run = planted(run, where, place.format(secret))
    jetson = NX
    for where in leaves(NX):
        jetson = planted(jetson, where, place.format(secret))
    text = json.dumps(make_submission(collect(run), jetson).document())
    assert secret not in text
    for part in ("acme", "anna", "line-3", "engines/", "/data", "9b1deb4d", "iwlwifi", make.digest("stfpm")):
        assert part not in text


def test_each_text_of_a_submission_has_a_form():
    """A record of figures that gets a new text field must not reach a submission by itself."""
    seen: List[Any] = []

    def check(kind: Any) -> None:
        if dataclasses.is_dataclass(kind) and kind not in seen:
            seen.append(kind)
            hints = typing.get_type_hints(kind)
            for field in dataclasses.fields(kind):
                has_text = holds(hints[field.name])
                assert not has_text or "form" in field.metadata, f"{kind.__name__}.{field.name}"

    def holds(kind: Any) -> bool:
        check(kind)
        parts = [holds(part) for part in typing.get_args(kind)]  # all of them are checked
        return kind is str or any(parts)

    check(Submission)
    assert len(seen) > 12


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "board.json"
    document = make_submission(collect(run_on_board()), NX).document()
    path.write_text(json.dumps({**document, **changes}))
    return path


def edited(folder: Path, place: str, value: Any) -> Path:
    path = written(folder)
    document = json.loads(path.read_text())
    *keys, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    part = document
    for key in keys:
        part = part[key]
    part[last] = value
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("version", 2, "format version is 2, this release reads version 1"),
        ("version", "1", "format version is '1'"),
        ("schema", "adq-edge/bench", "board.json: "),
        ("engines", [], "has no engine"),
        ("engines", {}, "engines is not a list"),
        ("engines.0.engine_mb", "11", "'11' is not a number"),
        ("engines.0.single_stream.latency.p50_ms", -1, "has impossible values of stfpm-fp32"),
        ("engines.0.single_stream.latency.p50_ms", 1e9, "has impossible values of stfpm-fp32"),
        ("engines.0.quality.image_auroc", 1.7, "an AUROC or AUPRO is not between 0 and 1"),
        ("engines.0.precision", "int3", "not a valid adq-edge/submission file"),
        ("engines.1.name", "stfpm-fp32", "two engines have the same name"),
        ("engines.1.name", "acme-lid", "engines.name is not a text that a submission may hold: 'acme-lid'"),
        ("board.name", "Jetson of Anna", "board.name is not a text that a submission may hold"),
        ("board.packages", {"numpy": "1.23.5+acme"}, "board.packages is not a text"),
        ("board.memory_gb", True, "True is not a number"),
        ("settings.device", "tpu", "not a valid adq-edge/submission file"),
        ("date", "yesterday", "date is not a text that a submission may hold"),
    ],
)
def test_edited_submission_is_refused_in_one_line(tmp_path, place: str, value: Any, words: str):
    path = edited(tmp_path, place, value)
    result = run_cli("report", path, "-o", "r.md", cwd=tmp_path)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "r.md").exists()


def test_report_shows_a_submission_beside_own_results(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    make.write(own, make.bench_report([make.engine("int8")]))
    made = report([own, written(tmp_path)], tmp_path / "out")
    assert {path.name for path in made.files} >= {"report.html", "submissions.csv"}
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Jetson Xavier NX \\(MODE" in text or "Jetson Xavier NX (MODE" in text
    rows = (tmp_path / "out" / "submissions.csv").read_text().splitlines()
    assert len(rows) == 3
    assert all("submitted" in row and "5.1.2" in row for row in rows[1:])
    assert "0.9858,0.9700,30.2" in rows[2] or "0.9858,0.97,30.2" in rows[2]
    headline = (tmp_path / "out" / "headline.csv").read_text().splitlines()
    assert len(headline) == 4
    assert any("stfpm-int8" in row and "0.9858" in row for row in headline)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "Boards that others measured" in html


def test_two_submissions_of_equal_boards_are_two_devices(tmp_path):
    first = written(tmp_path)
    second = tmp_path / "second.json"
    second.write_text(first.read_text().replace("2026-11-20", "2026-11-21"))
    report([first, second], tmp_path / "out")
    rows = (tmp_path / "out" / "headline.csv").read_text().splitlines()[1:]
    assert len({row.split('"')[1] if '"' in row else row.split(",")[1] for row in rows}) == 2


@pytest.fixture
def on_board(tmp_path, monkeypatch) -> Path:
    """Let this machine be a Xavier NX, whose `bench` returns at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("adq_edge.hardware.jetson.read_jetson", lambda: NX)
    monkeypatch.setattr(submit, "read_jetson", lambda: NX)
    monkeypatch.setattr(submit, "read_environment", lambda: make.BOARD)

    def bench(*arguments: Any, **options: Any) -> BenchmarkReport:
        run = run_on_board()
        make.write(workspace.RESULTS, run)
        return run

    monkeypatch.setattr(benching, "bench", bench)
    return tmp_path


def test_bench_on_a_board_writes_a_submission_and_keeps_earlier_ones(on_board: Path):
    (on_board / "benchmarks" / "results").mkdir(parents=True)
    (on_board / "benchmarks" / "results" / "broken.eval.json").write_text("{")
    names = ["jetson-xavier-nx-mode-20w-6core-2026-11-20.json"]
    names.append(names[0].replace(".json", "-2.json"))
    for name in names:
        result = run_cli("bench", "e.plan", "--device", "jetson", "--submit", cwd=on_board)
        assert result.returncode == 0
        assert result.stderr == "next: adq-edge report benchmarks/results benchmarks/submissions\n"
        assert f"submission: benchmarks/submissions/{name}" in result.stdout
    found = [Submission.read(on_board / "benchmarks" / "submissions" / name) for name in names]
    assert found[0] == found[1]
    assert found[0].engines[1].quality.image_auroc == 0.9858


def test_folder_that_cannot_be_written_is_found_before_the_measurement(on_board: Path):
    (on_board / "benchmarks").mkdir()
    (on_board / "benchmarks" / "submissions").write_text("a file")
    for arguments in (["e.plan", "--device", "jetson"], ["--host", "board"]):
        result = run_cli("bench", *arguments, "--submit", cwd=on_board)
        assert result.returncode == 2
        assert "benchmarks/submissions" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (on_board / "benchmarks" / "results").exists()


def test_submission_that_cannot_be_written_hides_no_result(on_board: Path, monkeypatch):
    def fail(*arguments: object) -> None:
        raise StorageError("no space left", where="benchmarks/submissions")

    monkeypatch.setattr(Submission, "write", fail)
    result = run_cli("bench", "e.plan", "--device", "jetson", "--submit", cwd=on_board)
    assert result.returncode == 2
    assert "result: benchmarks/results/" in result.stdout
    assert "no space left" in result.stderr


def test_machine_that_is_no_board_is_refused_before_the_measurement(tmp_path, engine):
    for options in ([], ["--device", "cpu"]):
        result = run_cli("bench", engine, *options, "--submit", cwd=tmp_path)
        assert result.returncode == 2
        assert "--submit is for figures of a board, and this is not a known one. Measure on" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "benchmarks").exists()
    result = run_cli("bench", "--estimate", "b", "--submit", cwd=tmp_path)
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("board", "gpu", "device", "name"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", None, "cpu", "Raspberry Pi 5"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", None, "cpu", "Raspberry Pi Compute Module 4"),
        (None, "NVIDIA GeForce RTX 4060 Laptop GPU", "rtx", "NVIDIA GeForce RTX 4060 Laptop GPU"),
        (None, "NVIDIA H100 80GB HBM3", "cuda", "NVIDIA H100 80GB HBM3"),
        (None, "NVIDIA GeForce RTX 4060 of Anna", "rtx", None),
        (None, "NVIDIA GeForce RTX 4060", "cpu", None),
        ("NVIDIA Jetson AGX Orin, carrier of Acme", None, "jetson", "Jetson AGX Orin"),
        ("Acme Line Computer", None, "jetson", None),
    ],
)
def test_boards_are_named_by_what_is_sold(board, gpu, device: str, name: Optional[str], monkeypatch):
    environment = dataclasses.replace(make.BOARD, board=board, gpu=gpu, power_mode="ACME_15W")
    run = dataclasses.replace(
        run_on_board(),
        environment=environment,
        settings=dataclasses.replace(run_on_board().settings, device=device),
    )
    if name is None:
        with pytest.raises(ResultError, match="not a known one"):
            make_submission(collect(run), None)
    else:
        found = make_submission(collect(run), None)
        assert (found.board.name, found.board.mode) == (name, "custom")


def test_board_at_a_host_is_submitted_without_the_host(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "benchmarks" / "results" / "anna@line-3"
    folder.mkdir(parents=True)
    run = run_on_board()
    make.write(folder, run)
    diagnosis = diagnose(tmp_path / "no such root", Programs())
    inventory = dataclasses.replace(diagnosis.inventory, jetson=NX)
    dataclasses.replace(diagnosis, inventory=inventory).write(folder / "doctor.json")
    result = BoardResult(
        "anna@line-3",
        benchmarks=tuple(sorted(folder.glob("*.bench.json"))),
        evaluations=tuple(sorted(folder.glob("*.eval.json"))),
        diagnosis=folder / "doctor.json",
    )
    output = boards_output([result], submit=True)
    assert output.exit_code == 0
    (path,) = (tmp_path / "benchmarks" / "submissions").iterdir()
    assert any(line.endswith(f"submission: benchmarks/submissions/{path.name}") for line in output.lines)
    assert Submission.read(path).board.module == "p3668-0001"
    assert "anna" not in path.read_text()
    assert "line-3" not in path.read_text()
    assert Diagnosis.read(folder / "doctor.json").inventory.jetson == NX


def test_check_needs_a_readable_engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AdqError, match="no engine found here"):
        check_board([], None)


def test_result_of_a_pc_is_not_submitted(tmp_path):
    make.write(tmp_path, make.bench_report([make.engine()]), evaluated=False)
    with pytest.raises(ResultError, match="not a known one"):
        write_submission(list(tmp_path.glob("*.bench.json")), None, folder=tmp_path / "s")
    assert not (tmp_path / "s").exists()
