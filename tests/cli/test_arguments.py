"""What the user gets to know who names a file of the wrong kind, and which paths a shell completes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, get_type_hints

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from adq_edge.cli import _VERBS, app
from adq_edge.cli.arguments import EXPECTED, check_paths
from factories.command_line import run_cli
from factories.images import write_image

ENGINE, BUNDLE = "engines/e.onnx", "bundles/b"
FILES = {
    ENGINE: b"\x08\x09",
    f"{ENGINE}.json": b'{"schema": "adq-edge/engine"}',
    f"{ENGINE}.products": b'{"schema": "adq-edge/products"}',
    f"{BUNDLE}/model.onnx": b"\x08\x09",
    f"{BUNDLE}/manifest.json": b'{"schema": "adq-edge/bundle"}',
    f"{BUNDLE}/ranges/r.json": b'{"schema": "adq-edge/ranges"}',
    "p.plan.json": b'{"schema": "adq-edge/plan"}',
    "checkpoints/c.pt": b"PK\x03\x04",
    "results/r.eval.json": b'{"schema": "adq-edge/eval"}',
    "data.tar": b"part/good/000.png\0",
    "study.json": b"{}",
    "notes.txt": b"notes",
}
KINDS = {
    ENGINE: ("an engine", f"adq-edge eval {ENGINE}"),
    f"{ENGINE}.json": ("the sidecar of an engine", ENGINE),
    f"{ENGINE}.products": ("the products of an engine", ENGINE),
    BUNDLE: ("a bundle", f"adq-edge build {BUNDLE}"),
    f"{BUNDLE}/model.onnx": ("the model of a bundle", BUNDLE),
    f"{BUNDLE}/manifest.json": ("the manifest of a bundle", BUNDLE),
    f"{BUNDLE}/ranges/r.json": ("activation ranges", f"adq-edge build {BUNDLE} --int8"),
    "p.plan.json": ("a precision plan", "adq-edge build BUNDLE --plan p.plan.json"),
    "checkpoints/c.pt": ("a checkpoint", "adq-edge export checkpoints/c.pt"),
    "results/r.eval.json": ("a result file (adq-edge/eval)", "adq-edge report results/r.eval.json"),
    "data.tar": ("a TAR archive", "tar xf data.tar"),
    "study.json": ("a JSON file", "Name "),
    "notes.txt": ("a text file", "Name "),
    "images/part.png": ("an image", "adq-edge predict ENGINE images/part.png"),
    "images": ("a folder of images", "adq-edge train --data images"),
    "engines": ("a folder of engines", ENGINE),
    "bundles": ("a folder of bundles", BUNDLE),
    "checkpoints": ("a folder of checkpoints", "adq-edge export checkpoints/c.pt"),
    "results": ("a folder of result files", "adq-edge report results/r.eval.json"),
}
"""The paths of `work`: the kind and the next step that messages name."""
VERBS = {
    "export {}": {"checkpoints/c.pt", "checkpoints"},
    "export checkpoints/c.pt --teacher-weights {}": {"checkpoints/c.pt"},
    "calibrate {}": {BUNDLE},
    "analyze {}": {BUNDLE},
    "build {}": {BUNDLE},
    f"build {BUNDLE} --plan {{}}": {"p.plan.json", "study.json"},
    f"build {BUNDLE} --calib-data {{}}": {"images"},
    f"build {BUNDLE} --data {{}}": {"images"},
    f"build {BUNDLE} --fit {{}}": {"images"},
    "fit {}": {ENGINE},
    f"fit {ENGINE} --product bolt --good {{}}": {"images"},
    f"fit {ENGINE} --check {{}}": {"images"},
    "eval {}": {ENGINE},
    f"eval {ENGINE} --data {{}}": {"images"},
    f"compare {{}} {ENGINE}": {ENGINE},
    f"compare {ENGINE} {{}}": {ENGINE},
    "stress {}": {ENGINE},
    f"stress {ENGINE} --against {{}}": {ENGINE},
    f"stress {ENGINE} --data {{}}": {"images"},
    "bench {}": {ENGINE},
    "bench --host board {}": {ENGINE, BUNDLE},
    "bench --estimate {}": {BUNDLE},
    f"bench {ENGINE} --image {{}}": {"images/part.png"},
    "report {}": {"results/r.eval.json", "results"},
    "predict {} images/part.png": {ENGINE, "images", "images/part.png", "notes.txt", "data.tar"},
    f"predict {ENGINE} {{}}": {ENGINE, "images", "images/part.png", "notes.txt", "data.tar"},
    "train --data {}": {"images"},
    "train --target cpu --qat {}": {"checkpoints/c.pt", "checkpoints"},
    "study {}": {"study.json"},
    "study --data {}": {"images"},
    "demo --data {}": {"images"},
}
"""Commands, and the paths in place of {} that they take, or report for each image."""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "part.png", 0)
    return tmp_path


@pytest.mark.parametrize("command", VERBS)
def test_file_of_the_wrong_kind_is_named_with_the_next_command(work: Path, command: str):
    before = sorted(work.rglob("*"))
    for path, (kind, following) in KINDS.items():
        if path in VERBS[command]:
            continue
        done = run_cli(*command.format(path).split(), cwd=work)
        assert (done.returncode, done.stdout) == (2, ""), (path, done.stderr)
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"adq-edge: {path}: {kind}, not "), line
        assert following in line.split(", not ")[1], line
    assert sorted(work.rglob("*")) == before


def test_every_path_of_a_verb_is_checked():
    outputs = {"output", "plot", "sheet", "root", "folder"}
    parameters = [one for verb in get_command(app).commands.values() for one in verb.params]  # type: ignore[attr-defined]
    paths = {one.name for one in parameters if one.metavar in ("FILE", "FOLDER")}
    for verb in _VERBS.values():
        paths |= {name for name, hint in get_type_hints(verb).items() if "Path" in str(hint)}
    assert paths - outputs == set(EXPECTED)


def test_paths_of_the_right_kind_are_accepted(work: Path, monkeypatch):
    monkeypatch.chdir(work)
    for command, paths in VERBS.items():
        name = command.split()[-2].lstrip("-").replace("-", "_") if "--" in command else ""
        for path in (paths & set(KINDS)) if name in EXPECTED else ():
            check_paths({name: path})
    (work / "by-hand.json").write_text('{"version":1,"schema":"adq-edge/plan"}')
    check_paths({"plan": "by-hand.json", "results": ["by-hand.json"]})
    check_paths({"engines": [ENGINE, BUNDLE], "host": ["board"]})
    check_paths({"paths": [ENGINE, "notes.txt", "results/r.eval.json", "images/part.png"]})
    check_paths({"teacher_weights": "demo", "calib_data": "random-normal", "data": None, "threads": 2})
    (work / "images" / "manifest.json").write_text("{}")
    (work / "images" / "c.pt").write_bytes(b"")
    check_paths({"data": "images", "results": ".", "engine": "missing.onnx"})


def completions(words: str) -> List[str]:
    position = len(words.split()) - (not words.endswith(" "))
    asked = {"_ADQ_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    return CliRunner().invoke(app, prog_name="adq-edge", env=asked).output.split()


def test_shell_completes_the_files_that_a_verb_takes(work: Path, monkeypatch):
    monkeypatch.chdir(work)
    (work / "benchmarks").mkdir()
    shutil.move(str(work / "results"), str(work / "benchmarks"))
    (work / "engines" / "with space.onnx").write_bytes(b"")
    (work / "engines" / "with space.onnx.json").write_bytes(b"")
    for words, expected in (
        ("adq-edge eval ", [ENGINE]),
        ("adq-edge eval ./en", [f"./{ENGINE}"]),
        ("adq-edge build b", [BUNDLE]),
        ("adq-edge export checkpoints/", ["checkpoints/c.pt"]),
        ("adq-edge report ", ["benchmarks/results/r.eval.json"]),
        ("adq-edge predict ", [ENGINE]),
        (f"adq-edge predict {ENGINE} ", []),
        ("adq-edge eval no/such/", []),
    ):
        assert completions(words) == expected, words


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_completion_is_installed_for_bash(work: Path):
    home = work / "home"
    home.mkdir()
    (home / "adq-edge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m adq_edge "$@"\n')
    (home / "adq-edge").chmod(0o755)
    path = f"{home}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(home), "PATH": path, "SHELL": "/bin/bash"}
    environment.pop("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", None)
    script = (
        "adq-edge --install-completion; . ~/.bashrc; COMP_WORDS=(adq-edge build bundles/); COMP_CWORD=2; "
        'COMP_LINE="${COMP_WORDS[*]}"; $(complete -p adq-edge | sed "s/.*-F \\([^ ]*\\) .*/\\1/") adq-edge; '
        'echo "completed: ${COMPREPLY[*]}"'
    )
    command = ["bash", "--norc", "-c", script]
    done = subprocess.run(command, env=environment, cwd=str(work), capture_output=True, text=True)
    assert f"completed: {BUNDLE}" in done.stdout, done.stdout + done.stderr
