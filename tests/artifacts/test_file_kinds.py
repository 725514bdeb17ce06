"""What the user gets to know who gives another file in place of an engine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.artifacts.file_kinds import reject_other_kinds
from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.core.errors import BundleError, EngineError, ResultError, StorageError
from adq_edge.report.report import report
from factories.images import write_image


def complaint(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        read_sidecar(path)
    return str(caught.value).replace(f"{path}: ", "", 1)


def test_other_files_of_the_workflow_are_named_with_the_verb_that_makes_an_engine(
    engine: Path, bundle, checkpoint: Path, tmp_path: Path
):
    folder, make = bundle.path, f"Make an engine from it: adq-edge build {bundle.path}"
    assert complaint(folder) == f"a bundle, not an engine. {make}."
    assert complaint(folder / "model.onnx") == f"the model of a bundle, not an engine. {make}."
    assert complaint(folder / "manifest.json") == f"the manifest of a bundle, not an engine. {make}."
    ranges = next((folder / "ranges").glob("*.json"))
    assert complaint(ranges) == (
        f"activation ranges, not an engine. Make an engine from its bundle: adq-edge build {folder} --int8."
    )
    assert complaint(sidecar_path(engine)) == (
        f"the sidecar of an engine, not an engine. Name the engine: {engine}."
    )
    renamed = tmp_path / "weights"
    shutil.copy(str(checkpoint), str(renamed))
    with pytest.raises(BundleError, match=f"a checkpoint, not a bundle.*: adq-edge export {checkpoint}"):
        open_bundle(checkpoint)
    for path in (checkpoint, renamed):
        fix = f"Make an engine from it: adq-edge export {path}, then adq-edge build"
        assert complaint(path) == f"a checkpoint, not an engine. {fix}."


def test_files_that_cannot_become_an_engine_are_named(tmp_path: Path):
    write_image(tmp_path / "a.png", 0)
    (tmp_path / "r.json").write_text('{"schema": "adq-edge/eval", "version": 1}')
    (tmp_path / "p.json").write_text('{\n  "schema": "adq-edge/plan"}')
    (tmp_path / "other.json").write_bytes(b"\xff{[")
    (tmp_path / "foreign.onnx").write_text("onnx")
    assert complaint(tmp_path / "a.png") == (
        f"an image, not an engine. Judge it: adq-edge predict ENGINE {tmp_path / 'a.png'}."
    )
    assert complaint(tmp_path).startswith("a folder of result files, not an engine. Show one of them: ")
    assert complaint(tmp_path / "r.json").startswith("a result file (adq-edge/eval), not an engine. Show ")
    assert complaint(tmp_path / "p.json").startswith("a precision plan, not an engine. ")
    (tmp_path / "e.onnx.products").write_text('{\n  "schema": "adq-edge/products"}')
    assert complaint(tmp_path / "e.onnx.products") == (
        f"the products of an engine, not an engine. Name the engine: {tmp_path / 'e.onnx'}."
    )
    assert complaint(tmp_path / "other.json").startswith("a JSON file, not an engine.")
    assert complaint(tmp_path / "foreign.onnx").startswith("its sidecar foreign.onnx.json is missing")
    assert complaint(tmp_path / "none.onnx").startswith("no such engine. Check the path")
    os.mkfifo(str(tmp_path / "pipe.onnx"))
    assert complaint(tmp_path / "pipe.onnx").startswith("a device, pipe or socket, not an engine.")
    with pytest.raises(StorageError, match="file name too long"):
        read_sidecar(tmp_path / ("n" * 300 + ".onnx"))


NAME_ENGINE = "Name an engine file"


@pytest.mark.parametrize(
    ("name", "content", "kind", "fix"),
    [
        ("report.html", b"\n<!DOCTYPE html>\n<html>", "a web page", NAME_ENGINE),
        ("e.onnx", b"<html><body>404 Not Found", "a web page", NAME_ENGINE),
        (
            "e.plan",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "a pointer of Git LFS",
            "git lfs pull",
        ),
        ("notes.md", "# Schwellenwert für Teile\n".encode() + 300 * "ü".encode(), "a text file", NAME_ENGINE),
        ("table.csv", b"a,b\r\n1,2\r\n", "a text file", NAME_ENGINE),
        ("e", b"PK\x03\x04\x14\0", "a ZIP archive", NAME_ENGINE),
        ("part", b"\x89PNG\r\n\x1a\n\0", "an image", "Judge it: adq-edge predict ENGINE "),
        ("part.heic", b"\0\0\0\x18ftypheic", "an image", "Convert it to PNG"),
        ("e.trt", b"", "an empty file", NAME_ENGINE),
    ],
)
def test_wrong_file_is_named_by_its_content(tmp_path: Path, name: str, content: bytes, kind: str, fix: str):
    path = tmp_path / name
    path.write_bytes(content)
    text = complaint(path)
    assert text.startswith(f"{kind}, not an engine. ")
    assert fix in text
    with pytest.raises(ResultError, match=f"{kind}, not a result file that a report can show"):
        report(path, tmp_path / "page.html")
    if path.suffix != ".onnx":
        with pytest.raises(BundleError, match=f"{kind}, not a bundle"):
            open_bundle(path)


def test_engine_given_to_report_is_named(engine: Path, tmp_path: Path):
    with pytest.raises(ResultError, match="an engine, not a result file that a report can show"):
        report(engine, tmp_path / "page.html")


@settings(max_examples=200, deadline=None)
@given(content=st.binary(min_size=1, max_size=600))
def test_model_files_are_not_taken_for_other_files(content: bytes):
    """An ONNX file begins with the field of its IR version."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "e.onnx")
        path.write_bytes(b"\x08\x09" + content)
        reject_other_kinds(path)
        path.rename(path.with_suffix(""))
        reject_other_kinds(path.with_suffix(""))
