"""The options of all verbs, the next command, wrong usage and shell completion."""

from __future__ import annotations

import enum
import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from typer.main import get_command

import adq_edge
from adq_edge.artifacts.sidecar import sidecar_path
from adq_edge.cli import app, options
from adq_edge.cli.common import handle_errors
from adq_edge.cli.groups import GENERAL, GROUPS
from adq_edge.core.console import Verbosity
from adq_edge.core.methods import METHODS
from adq_edge.core.options import Precision
from factories.command_line import run_cli
from factories.paths import REPOSITORY
from factories.tiny_engine import write_engine

COMMAND = [sys.executable, "-m", "adq_edge"]
VERBS: Dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]


@pytest.fixture
def workplace(engines, bundle, tmp_path: Path) -> Path:
    """Return a folder with a bundle, two engines and their sidecars, under the names that verbs look for."""
    (tmp_path / "engines").mkdir()
    for precision in (Precision.FP32, Precision.INT8):
        for path in (engines[precision], sidecar_path(engines[precision])):
            shutil.copy(str(path), str(tmp_path / "engines"))
    shutil.copytree(str(bundle.path), str(tmp_path / "bundles" / "parts"))
    return tmp_path


FP32, INT8 = "engines/parts-fp32.onnx", "engines/parts-int8.onnx"
RESULTS = "benchmarks/results"


@pytest.mark.parametrize(
    ("arguments", "file", "following"),
    [
        (["eval", INT8], f"{RESULTS}/parts-int8.eval.json", f"fit {INT8} --data "),
        (
            ["compare", FP32, INT8, "--worst", "0"],
            f"{RESULTS}/parts-fp32-vs-parts-int8.compare.json",
            f"bench {FP32} {INT8}",
        ),
        (["build", "bundles/parts", "--fp32", "-o", FP32], f"{FP32}.json", f"fit {FP32}"),
        (
            ["bench", "--estimate", "bundles/parts"],
            f"{RESULTS}/parts.estimate.json",
            "build bundles/parts --int8",
        ),
        (
            ["calibrate", "--calib-data", "random-normal", "--samples", "4", "--calib", "minmax"],
            "bundles/parts/ranges/random-normal.minmax.json",
            "build bundles/parts --int8 --calib minmax --calib-data random-normal --samples 4",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_json_is_the_result_file_and_text_names_the_next_command(
    workplace: Path, arguments: List[str], file: str, following: str
):
    shown = run_cli(*arguments, cwd=workplace)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.splitlines()[-1].startswith(f"next: adq-edge {following}")
    quiet = run_cli("-q", *arguments, cwd=workplace)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert len(quiet.stdout.splitlines()) == len(shown.stdout.splitlines())
    printed = run_cli(*arguments, "--json", cwd=workplace)
    assert printed.returncode == 0, printed.stderr
    assert "next:" not in printed.stderr
    path = workplace / file
    if not path.exists():
        (path,) = path.parent.glob("*minmax*.json")
    assert json.loads(printed.stdout) == json.loads(path.read_text(encoding="utf-8"))


def test_json_of_verbs_without_a_result_file(workplace: Path):
    drawn = ["synthetic", "drawn", "--train", "1", "--good", "1", "--defective", "0", "--size", "64"]
    for arguments, schema in (
        (drawn, "adq-edge/synthetic"),
        (["bench", "--estimate", "bundles/parts"], "adq-edge/estimate"),
        (["report"], "adq-edge/report"),
        (["doctor"], "adq-edge/doctor"),
    ):
        shown = run_cli("--json", *arguments, cwd=workplace)
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["schema"] == schema


def test_json_is_utf_8_whatever_the_terminal_and_failed_verbs_print_none(workplace: Path):
    (workplace / "bundles" / "parts").rename(workplace / "bundles" / "Schräubchen")
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    command = [*COMMAND, "bench", "--json", "--estimate", "bundles/Schräubchen", "-v"]
    done = subprocess.run(command, cwd=str(workplace), env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("utf-8"))["name"]
    assert b"peak memory" in done.stderr
    failed = run_cli("eval", "--json", "missing.onnx", cwd=workplace)
    assert (failed.returncode, failed.stdout) == (2, "")


def test_verbose_prints_durations_and_the_traceback_of_an_error(workplace: Path):
    shown = run_cli("eval", INT8, "-v", cwd=workplace)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"Evaluating parts-int8\.onnx: 12 images in \d+\.\d s", shown.stderr)
    assert re.search(r"^eval: \d+\.\d s", shown.stderr, re.MULTILINE)
    failed = run_cli("-v", "eval", "missing.onnx", cwd=workplace)
    assert "adq-edge: missing.onnx: no such engine" in failed.stderr
    assert "read_sidecar" in failed.stderr
    assert run_cli("eval", "-q", "-v", cwd=workplace).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "engines/parts-int9.onnx"], "no such engine. Did you mean engines/parts-int8.onnx"),
        (["eval", "engine/parts-int8.onnx"], "no such engine. Did you mean engines/parts-int8.onnx?"),
        (["build", "bundles/Part"], "no such bundle. Did you mean bundles/parts?"),
        (["report", "bundle"], "no such file or folder. Did you mean bundles?"),
        (["eval", "x/y.onnx"], "no such engine. Check the path, or build it: adq-edge build BUNDLE."),
        (["evla"], "no verb named 'evla'. Did you mean eval? Help: adq-edge -h"),
        (["-q", "bnech"], "no verb named 'bnech'. Did you mean bench? Help: adq-edge -h"),
        (["build", "--hlep"], "no option --hlep. Did you mean --help? Help: adq-edge build -h"),
        (["bench", "--qiuck"], "no option --qiuck. Did you mean --quick? Help: adq-edge bench -h"),
        (["compare", INT8], "Help: adq-edge compare -h"),
        (["train", "--data"], "'--data' requires an argument. Help: adq-edge"),
        (["build", "--device", "gpu"], "'gpu' is not one of 'cpu', 'jetson', 'cuda', 'rtx'. Help: adq-edge"),
    ],
)
def test_wrong_usage_prints_one_line_with_the_nearest_name(workplace: Path, arguments, message: str):
    done = run_cli(*arguments, cwd=workplace)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("adq-edge: ")
    assert message in line


def test_only_engines_are_suggested_for_an_engine(tmp_path: Path):
    write_engine(tmp_path / "long.onnx")
    (tmp_path / "lone.onnx").write_bytes(b"a model without a sidecar")
    done = run_cli("eval", "lon.onnx", cwd=tmp_path)
    assert done.stderr == "adq-edge: lon.onnx: no such engine. Did you mean long.onnx?\n"


def test_no_arguments_print_the_help(tmp_path: Path):
    shown = run_cli(cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout == run_cli("-h", cwd=tmp_path).stdout
    assert shown.stdout.startswith("Usage: adq-edge ")
    assert "..." not in shown.stdout.partition("Commands:")[2]  # no description is cut


def test_help_names_the_value_and_the_default_of_each_option(tmp_path: Path):
    for name, command in VERBS.items():
        shown = run_cli(name, "-h", cwd=tmp_path).stdout
        assert not re.search(r"<(str|int|float|list)|\b(TEXT|INTEGER|FLOAT)\b", shown), name
        for parameter in command.params:
            flag = getattr(parameter, "is_flag", False)
            help_text = parameter.help or ""
            assert help_text.endswith("."), (name, parameter.name)
            assert max(len(sentence.split()) for sentence in re.split(r"[.;:] ", help_text)) <= 20, help_text
            if parameter.param_type_name != "argument" and not flag:
                known = (
                    re.search("default|required", help_text, re.IGNORECASE) or parameter.default is not None
                )
                assert known, (name, parameter.name)
        for sentence in re.split(r"(?<=[.:]) |\n\n", command.help):
            assert len(sentence.split()) <= 20, sentence


def test_help_of_long_verbs_shows_every_option_in_a_named_group(tmp_path: Path):
    for name, groups in GROUPS.items():
        shown = run_cli(name, "-h", cwd=tmp_path).stdout
        assert not re.search(r"\w-$", shown, re.MULTILINE)  # names of choices and options are not broken
        titles = [title for title in ("Arguments", *groups, GENERAL) if f"\n{title}:\n" in shown]
        assert re.findall(r"^(\w.*):$", shown, re.MULTILINE) == titles
        listed = [parameter for parameters in groups.values() for parameter in parameters]
        assert len(listed) == len(set(listed))
        options_of_verb = {one.name for one in VERBS[name].params if one.param_type_name == "option"}
        assert set(listed) == options_of_verb - {"as_json", "verbose", "quiet"}, name
        help_of_training = shown.partition("Calibration of INT8 and FP8:")[2].partition("Layers in float32:")[
            0
        ]
        assert ("--samples COUNT" in help_of_training) == (name == "build")


def test_version_option_and_internal_errors_print_one_line(tmp_path: Path, monkeypatch, capsys):
    assert run_cli("-V", cwd=tmp_path).stdout == run_cli("--version", cwd=tmp_path).stdout

    def broken() -> None:
        raise KeyError("layer")

    with pytest.raises(SystemExit) as ended:
        handle_errors(broken)()
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"adq-edge: internal error at \w+\.py:\d+: KeyError: 'layer'\. Please report it", line)
    monkeypatch.setattr("adq_edge.core.console._current", Verbosity.VERBOSE)
    with pytest.raises(SystemExit):
        handle_errors(broken)()
    assert 'raise KeyError("layer")' in capsys.readouterr().err


def test_choices_in_help_are_those_that_the_verbs_accept():
    registry = pytest.importorskip("adq_edge.models.registry")
    from adq_edge.calibration.calibrators.registry import BUILT_IN
    from adq_edge.calibration.sources import source_names

    assert sorted(METHODS) == sorted(registry.METHODS)
    assert sorted(options.CALIBRATORS) == sorted(BUILT_IN)
    assert sorted(options.SOURCES) == sorted(source_names())
    from adq_edge.models.resnet import Backbone
    from adq_edge.models.reverse_blocks import BottleneckVariant
    from adq_edge.training import settings

    for name, kind in (
        ("backbone", Backbone),
        ("bottleneck", BottleneckVariant),
        ("select", settings.Selection),
        ("decay", settings.Decay),
        ("balance", settings.Balance),
        ("precision", settings.TrainingPrecision),
    ):
        (parameter,) = [one for one in VERBS["train"].params if one.name == name]
        assert parameter.metavar == options.names(kind)


def test_defaults_in_help_are_those_of_the_functions():
    pytest.importorskip("torch")
    from adq_edge.benchmark import sample_image
    from adq_edge.builders import tensorrt_options
    from adq_edge.decision.fit import DEFAULT_FALSE_REJECTS

    compared = 0
    for verb in ("train", "export", "build", "calibrate", "analyze", "compare"):
        values = inspect.signature(getattr(adq_edge, verb)).parameters
        for parameter in VERBS[verb].params:
            text = re.search(r"Default: ([\w.-]+?)\.?( |$)", parameter.help or "")
            default = getattr(values.get(parameter.name), "default", None)
            if type(default) in (str, float, int) or isinstance(default, enum.Enum):
                shown = text.group(1) if text else str(parameter.default).strip("[]'")
                assert shown == str(getattr(default, "value", default)), (verb, parameter.name)
                compared += 1
    assert compared >= 12
    for verb, option, words in (
        ("fit", "false_rejects", f"; {DEFAULT_FALSE_REJECTS:.0%} at first"),
        ("bench", "image", f"of {sample_image._PIXELS}x{sample_image._PIXELS} pixels"),
        ("build", "workspace", f"at most {tensorrt_options._MOST_WORKSPACE_MB}"),
    ):
        assert words in next(one.help for one in VERBS[verb].params if one.name == option)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("adq-edge ev", ["eval"]),
        ("adq-edge build --runtime ", ["onnxruntime", "openvino", "tensorrt-emulation"]),
        ("adq-edge build --device c", ["cpu", "cuda"]),
        ("adq-edge calibrate --source images,sy", ["images,synthetic-defects"]),
        ("adq-edge train --arch r", ["reverse-distillation"]),
    ],
)
def test_shell_completes_verbs_and_choices(words: str, expected: List[str]):
    position = len(shlex.split(words)) - (not words.endswith(" "))
    asked = {"_ADQ_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    done = subprocess.run(COMMAND, env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == expected, done.stderr


def test_completion_script_can_be_shown():
    done = subprocess.run(
        [*COMMAND, "--show-completion"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": ""},
        capture_output=True,
        text=True,
    )
    assert "_ADQ_EDGE_COMPLETE" in done.stdout + done.stderr or "shell" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr


def readme_commands() -> List[str]:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(adq-edge [^`]+)`", text)
    found = [line for line in (*lines, *inline) if line.startswith("adq-edge ")]
    return [re.sub(r"\s+", " ", line) for line in found]


@pytest.mark.parametrize("line", readme_commands())
def test_commands_of_the_readme_exist_with_their_options(line: str):
    _, name, *arguments = shlex.split(line.replace("...", ""))
    if name.startswith("-"):
        return
    command = VERBS[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    used = {argument.split("=")[0] for argument in arguments if argument.startswith("-")}
    assert used <= known, used - known


def test_export_of_an_unfinished_training_says_how_far_it_is(dataset: Path, tmp_path: Path):
    pytest.importorskip("torch")
    from adq_edge.models.checkpoint import save_checkpoint
    from factories.images import make_model

    training = {"settings": {"data": str(dataset), "epochs": 4}, "log": [{}, {}], "finished": False}
    save_checkpoint(tmp_path / "half.pt", make_model(), training)
    shown = run_cli("export", "half.pt", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "caution: the training is not finished: 2 of 4 epochs" in shown.stdout
    assert shown.stderr.splitlines()[-1] == "next: adq-edge build bundles/half --int8"
    manifest = json.loads((tmp_path / "bundles" / "half" / "manifest.json").read_text())
    assert manifest["unfinished"] == "2 of 4 epochs"
