"""The command line: help, output, exit codes, one clear line for bad input."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import List

import psutil
import pytest
from typer.testing import CliRunner

from adq_edge.cli import app
from adq_edge.cli.options import current_names
from adq_edge.core.methods import QAT
from adq_edge.core.options import Precision
from factories.command_line import run_cli
from factories.images import leftovers
from factories.sshd import wait_for

COMMAND = [sys.executable, "-m", "adq_edge"]


def adq(arguments: List[object], cwd: Path) -> subprocess.CompletedProcess:
    return run_cli(*arguments, cwd=cwd)


def refused(result: subprocess.CompletedProcess) -> str:
    """Check that a command failed with exit code 2 and one line on stderr besides notes; return the line."""
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.strip().splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("adq-edge: ")
    return lines[0]


VERBS = [str(command.name) for command in app.registered_commands]


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), terminal_width=1000)
    assert result.exit_code == 0, result.output
    return result.output


def test_short_and_long_help_option_of_every_verb():
    for verb in ([], *([name] for name in VERBS)):
        assert help_of(*verb, "-h") == help_of(*verb, "--help")
    assert all(verb in help_of("-h") for verb in VERBS)


def test_help_of_every_verb_imports_only_the_command_line_and_its_base():
    """Counted, not timed: no heavy library and no room above `core` is what keeps help fast."""
    code = (
        "import sys; from adq_edge.__main__ import main\n"
        "heavy = {'torch', 'numpy', 'cv2', 'onnx', 'onnxruntime', 'tensorrt', 'openvino', 'rich'}\n"
        "for verb in sys.argv[1:]:\n"
        "    sys.argv = ['adq-edge', verb, '-h']\n"
        "    try: main()\n"
        "    except SystemExit as ended: assert not ended.code, verb\n"
        "    rooms = {name.split('.')[1] for name in sys.modules if name.startswith('adq_edge.')}\n"
        "    unwanted = heavy & set(sys.modules) | rooms - {'__main__', 'cli', 'core'}\n"
        "    assert not unwanted, (verb, unwanted)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *VERBS], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.count("Usage: ") == len(VERBS)


def test_train_help_shows_the_defaults_of_each_method():
    pytest.importorskip("torch")
    from adq_edge.models.registry import METHODS

    shown = " ".join(help_of("train", "--help").split())
    for field in ("epochs", "batch_size", "learning_rate"):
        for name, method in METHODS.items():
            assert re.search(f"[,:] {getattr(method.training_defaults, field):g} for {name}[,;]", shown), name
        assert f"; {getattr(QAT, field):g} with --qat" in shown


@pytest.mark.parametrize(
    ("arguments", "note", "complaint"),
    [
        (["calibrate", "{bundle}", "--data", "empty"], "--data is now --calib-data", "empty: no calibration"),
        (
            ["analyze", "{bundle}", "--data=empty"],
            "--data is now --calib-data",
            "empty: no calibration images",
        ),
        (["analyze", "{bundle}", "--pictures", "0"], "--pictures is now --images", "0 images asked for"),
        (
            ["compare", "{engine}", "{engine}", "--pictures", "p.pdf"],
            "--pictures is now --sheet",
            "p.pdf: not the name of a PNG or JPEG file",
        ),
    ],
)
def test_earlier_option_names_are_accepted_with_a_note(
    engines, bundle, tmp_path: Path, arguments, note: str, complaint: str
):
    (tmp_path / "empty").mkdir()
    places = {"bundle": bundle.path, "engine": engines[Precision.INT8]}
    result = adq([argument.format(**places) for argument in arguments], tmp_path)
    assert result.returncode == 2, result.stderr
    first, second = result.stderr.splitlines()
    assert first == f"adq-edge: {note}"
    assert second.startswith(f"adq-edge: {complaint}")


def test_earlier_option_names_are_hidden_and_do_not_change_other_verbs(capsys):
    assert "--pictures" not in help_of("analyze", "-h") + help_of("compare", "-h")
    assert "--data" not in help_of("analyze", "-h") + help_of("calibrate", "-h")
    for arguments in (["eval", "e.onnx", "--data", "d"], [], ["-h"]):
        assert current_names(arguments) == arguments
    assert not capsys.readouterr().err


def test_interruption_while_the_command_line_loads_prints_no_traceback():
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'adq_edge.cli':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from adq_edge.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "adq-edge: interrupted\n")


def test_device_half_never_imports_torch():
    """Import what a Jetson runs, with torch made unimportable."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import adq_edge.builders.build, adq_edge.evaluation.evaluate, adq_edge.evaluation.predict\n"
        "import adq_edge.benchmark.bench, adq_edge.calibration.calibrate, adq_edge.runtimes.onnxruntime\n"
        "import adq_edge.report.tables.headline\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_telemetry_of_onnxruntime_is_off(tmp_path: Path):
    """Run a graph: ONNX Runtime of 2026 writes an identifier to the home folder if telemetry is on."""
    code = (
        "import adq_edge, onnxruntime; from onnx import TensorProto, helper\n"
        "one = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in 'xy']\n"
        "graph = helper.make_graph([helper.make_node('Neg', ['x'], ['y'])], 'g', one[:1], one[1:])\n"
        "model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)\n"
        "onnxruntime.InferenceSession(model.SerializeToString()).run(None, {'x': [1.0]})\n"
    )
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")
    }
    subprocess.run([sys.executable, "-c", code], check=True, env={**environment, "HOME": str(tmp_path)})
    assert not list(tmp_path.rglob("*"))


def test_each_verb_finds_the_output_of_the_previous_verb(checkpoint: Path, dataset: Path, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(str(checkpoint), str(tmp_path / "checkpoints"))
    exported = adq(["export"], tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert "parity on 8 images" in exported.stdout
    for options in (["--fp32"], ["--fp16"], ["--int8", "--calib", "entropy"]):
        built = adq(["build", *options], tmp_path)
        assert built.returncode == 0, built.stderr
    assert "entropy, 12 inputs of source images" in built.stdout
    assert "28 QLinearConv" in built.stdout
    evaluated = adq(["eval"], tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "parts-int8-entropy.onnx" in evaluated.stdout
    result = json.loads((tmp_path / "benchmarks/results/parts-int8-entropy.eval.json").read_text())
    sidecar = json.loads((tmp_path / "engines/parts-int8-entropy.onnx.json").read_text())
    assert sidecar["threshold"]["score"] == result["threshold"]
    timed = adq(["bench", "--device", "cpu", "--quick"], tmp_path)
    assert timed.returncode == 0, timed.stderr
    assert "not to be quoted" in timed.stdout
    assert timed.stdout.splitlines()[-1] == "result: benchmarks/results/parts-int8-entropy.quick.bench.json"
    assert (tmp_path / "benchmarks/results/parts-int8-entropy.quick.bench.json").is_file()
    assert not leftovers(tmp_path)


def test_predict_prints_a_line_per_image_and_exits_with_1_for_unreadable_ones(
    engine: Path, dataset: Path, tmp_path: Path
):
    (tmp_path / "bad.png").write_text("text")
    folder = dataset / "part0" / "test" / "spot"
    assert adq(["eval", engine], tmp_path).returncode == 0
    result = adq(["predict", engine, folder, tmp_path / "bad.png"], tmp_path)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["error"] is None for line in lines] == [True, True, True, False]
    assert all((tmp_path / line["heat_map"]).is_file() for line in lines[:3])
    assert result.returncode == 1
    assert "1 of 4 images not judged. " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "--data", "none"], "none: no such dataset folder"),
        (["train", "--data", "."], ".: has one training image. Training needs at least 2"),
        (["export"], "no checkpoint found here. Name one, or make one first: adq-edge train"),
        (["export", "none.pt"], "none.pt: no such file or directory"),
        (["export", "text.png"], "text.png: a text file, not a checkpoint. Name a checkpoint."),
        (["build"], "no bundle found here"),
        (["build", "none"], "none: no such bundle"),
        (["build", "text.png"], "text.png: a text file, not a bundle"),
        (["build", "{bundle}", "--int8", "--fp32"], "more than one precision asked for"),
        (["build", "{bundle}", "--calib", "magic"], "no calibrator named 'magic'"),
        (["build", "{bundle}", "--calib-data", "empty"], "empty: no calibration images here"),
        (["eval"], "no engine found here"),
        (["eval", "none.onnx"], "none.onnx: no such engine"),
        (["eval", "{engine}", "--data", "empty"], "empty: no category found here"),
        (["eval", "{engine}", "--category", "part9"], "no category named 'part9'"),
        (["predict", "none.onnx", "text.png"], "none.onnx: no such engine"),
        (["predict", "{engine}", "empty"], "empty: no images in this folder"),
        (["bench", "none.onnx"], "none.onnx: no such engine"),
    ],
)
def test_bad_input_prints_one_line_and_exits_2(engines, bundle, tmp_path: Path, arguments, complaint: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("text")
    before = sorted(tmp_path.rglob("*"))
    places = {"bundle": bundle.path, "engine": engines[Precision.INT8]}
    line = refused(adq([argument.format(**places) for argument in arguments], tmp_path))
    assert complaint in line
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_teacher_file_is_reported(dataset: Path, tmp_path: Path):
    pytest.importorskip("torch")
    line = refused(adq(["train", "--data", dataset, "--teacher-weights", "none.pth"], tmp_path))
    assert "none.pth: no such file" in line


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize("verb", ["train", "export", "build"])
def test_full_disk_prints_one_line_and_leaves_no_file(
    verb, narrow_checkpoint, bundle, dataset, tmp_path: Path
):
    """A limit on the file size stands in for a full disk: the write fails half-way."""
    import torch

    from factories.images import make_model

    teacher = tmp_path / "teacher.pth"
    torch.save(make_model().teacher.state_dict(), str(teacher))
    arguments = {
        "train": ["--data", dataset, "--teacher-weights", teacher, "--image-size", 32, "--epochs", 1],
        "export": [narrow_checkpoint],
        "build": [bundle.path, "--fp32"],
    }[verb]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        result = adq([verb, *arguments], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.returncode == 2, result.stderr
    line = result.stderr.strip().splitlines()[-1]  # the progress bars come first
    assert line.startswith("adq-edge: ")
    assert "file too large" in line
    assert "Traceback" not in result.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [teacher]


def wait_until_working(verb: str, process: subprocess.Popen, folder: Path) -> None:
    """Wait until `train` has ended an epoch; until another verb has used CPU time after loading libraries."""
    running = psutil.Process(process.pid)

    def is_working() -> bool:
        if verb == "train":
            return bool(list(folder.glob("checkpoints/*.pt")))
        with contextlib.suppress(psutil.NoSuchProcess):
            busy = running.children() if verb == "bench" else [running]  # `bench` has processes for engines
            return any(each.cpu_times().user > 1.8 for each in busy)
        return False

    wait_for(lambda: process.poll() is not None or is_working(), f"work of {verb}")


@pytest.mark.parametrize("verb", ["train", "build", "eval", "bench"])
def test_ctrl_c_exits_with_130_and_leaves_nothing_half_written(verb, engines, bundle, dataset, tmp_path):
    teacher = tmp_path / "teacher.pth"
    copy = tmp_path / "bundle"
    arguments: List[object] = {
        "train": ["--data", dataset, "--teacher-weights", teacher, "--image-size", 64, "--epochs", 5000],
        "build": [copy, "--calib-data", "random-normal", "--samples", 50_000],
        "eval": [engines[Precision.FP32], "--data", tmp_path / "many"],
        "bench": [engines[Precision.FP32], "--device", "cpu"],
    }[verb]
    if verb == "train":
        import torch

        from factories.images import make_model

        torch.save(make_model().teacher.state_dict(), str(teacher))
    if verb == "build":
        shutil.copytree(str(bundle.path), str(copy))
        shutil.rmtree(str(copy / "ranges"), ignore_errors=True)
    if verb == "eval":
        shutil.copytree(str(dataset), str(tmp_path / "many"))
        for image in list((tmp_path / "many").rglob("test/good/*.png")):
            for number in range(1500):
                os.link(str(image), str(image.with_name(f"{image.stem}_{number}.png")))
    process = subprocess.Popen(
        [*COMMAND, verb, *map(str, arguments)],
        cwd=str(tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A background job of a shell ignores SIGINT, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        wait_until_working(verb, process, tmp_path)
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    then = "goes on where it stopped" if verb == "train" else "starts from the beginning"
    last = errors.strip().splitlines()[-1]
    assert last.startswith("adq-edge: interrupted; ")
    assert last.endswith(f"the same command {then}")
    assert "Traceback" not in errors
    assert not leftovers(tmp_path)
    if verb == "train":
        from adq_edge.models.checkpoint import load_checkpoint

        for path in (tmp_path / "checkpoints").glob("*.pt"):
            load_checkpoint(path)
    else:
        assert not (tmp_path / "engines").exists()
        assert not [path for path in (tmp_path / "benchmarks").rglob("*") if path.is_file()]
