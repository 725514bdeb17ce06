"""`fit` on the command line: what is learned, listed, removed and refused."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Optional, Tuple

import pytest

from adq_edge.artifacts.products import Products, products_path
from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.cli.fit import _judge
from adq_edge.core.quantities import parse_area, parse_share
from adq_edge.decision.fit import Fit
from factories.command_line import run_cli
from factories.parts import write_good_parts, write_part
from factories.tiny_engine import write_engine


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an engine, two folders of good images, and a product learned from one."""
    work = tmp_path_factory.mktemp("learned")
    write_engine(work / "engines" / "e.onnx")
    write_good_parts(work / "bolt", "bolt")
    write_good_parts(work / "nut", "nut")
    done = run_cli("fit", "--product", "bolt", "--good", "bolt", "--false-rejects", "5%", cwd=work)
    assert done.returncode == 0, done.stderr
    return work


@pytest.fixture
def work(learned: Path, tmp_path: Path) -> Path:
    shutil.copytree(str(learned), str(tmp_path / "work"))
    return tmp_path / "work"


def products(work: Path) -> Products:
    return Products.read(products_path(work / "engines" / "e.onnx"))


def test_a_product_is_added_listed_and_removed_without_a_change_of_the_others(work: Path):
    (bolt,) = products(work).products
    done = run_cli("fit", "engines/e.onnx", "--product", "nut", "--good", "nut", cwd=work)
    assert done.returncode == 0
    assert products(work).products[0] == bolt
    assert products(work).false_rejects == 0.05
    for text in ("bolt", "nut", "24", "at most 5 % of good parts rejected, from 24 good images", "well"):
        assert text in done.stdout
    step = "next: judge other images than those: adq-edge predict engines/e.onnx IMAGE_OR_FOLDER"
    assert done.stderr.splitlines()[-1] == step  # the images of the fit tell nothing
    document = json.loads(run_cli("fit", "--list", "--json", cwd=work).stdout)
    assert document["schema"] == "adq-edge/fit"
    assert [one["name"] for one in document["products"]] == ["bolt", "nut"]
    assert document["false_rejects"] == 0.05
    assert run_cli("fit", "--remove", "nut", cwd=work).returncode == 0
    assert products(work).products == (bolt,)
    last = run_cli("fit", "--remove", "bolt", cwd=work)
    assert last.returncode == 0
    assert "next: learn a product: adq-edge fit" in last.stderr


def test_rate_alone_changes_the_stored_rate_and_learns_nothing(work: Path):
    before = products(work).products
    done = run_cli("fit", "--false-rejects", "0.5%", "--threads", "1", cwd=work)
    assert done.returncode == 0
    assert "about 0.5 % of good parts rejected, an estimate" in done.stdout
    assert "24 good images promise 4 %, give 199 for 0.5 %" in done.stdout
    assert (products(work).false_rejects, products(work).products) == (0.005, before)


@pytest.mark.parametrize(
    ("sources", "step"),
    [
        (["bolt/train/good"], ("predict", "e.onnx", "bolt/test")),
        (["."], ("predict", "e.onnx", "bolt/test")),
        (["bolt"], ("predict", "e.onnx", "bolt/test")),
        (["bolt/test"], None),
        (["bolt/train/good", "bolt/test/good"], None),
        (["elsewhere"], None),
    ],
)
def test_next_command_judges_other_images_than_those_of_the_fit(
    work: Path, monkeypatch: pytest.MonkeyPatch, sources: List[str], step: Optional[Tuple[str, ...]]
):
    found = products(work)
    monkeypatch.chdir(work)
    for folder in ("bolt/train/good", "bolt/test/good", "elsewhere"):
        Path(folder).mkdir(parents=True)
    (learned,) = found.products
    found = dataclasses.replace(found, products=(dataclasses.replace(learned, sources=tuple(sources)),))
    shown = _judge(Fit(Path("p"), Path("e.onnx"), found, ("bolt",), ()))
    if step is None:
        assert shown == "judge other images than those: adq-edge predict e.onnx IMAGE_OR_FOLDER"
    else:
        assert tuple(map(str, shown)) == step


def test_suspicious_images_are_listed_with_clean(work: Path):
    planted = write_part(work / "nut" / "planted.png", "nut", 99, is_defective=True)
    done = run_cli("fit", "--product", "nut", "--good", "nut", "--clean", cwd=work)
    assert done.returncode == 0
    (note,) = (line for line in done.stdout.splitlines() if "nut: left out, look defective: " in line)
    assert str(planted.relative_to(work)) in note
    (kept,) = (line for line in done.stdout.splitlines() if "nut: kept, look at these first: " in line)
    assert kept.count(".png") == 3
    document = json.loads(run_cli("fit", "--list", "--json", cwd=work).stdout)
    assert "nut/planted.png" in document["products"][1]["suspicious"]
    assert document["products"][1]["images"] + len(document["products"][1]["suspicious"]) == 25


def test_new_good_images_are_compared_with_those_of_the_fit(work: Path):
    for seed in range(24):
        write_part(work / "later" / f"{seed}.png", "bolt", 500 + seed, light=2.0 * (seed - 12))
        write_part(work / "brighter" / f"{seed}.png", "bolt", 600 + seed, light=30.0)
    before = products_path(work / "engines" / "e.onnx").read_bytes()
    done = run_cli("fit", "--check", "later", cwd=work)
    assert done.returncode == 0, done.stderr
    assert "no difference found" in done.stdout
    done = run_cli("fit", "--check", "brighter", "--product", "bolt", "--json", cwd=work)
    (found,) = json.loads(done.stdout)["products"]
    assert (done.returncode, found["result"]) == (1, "new images score higher")
    assert products_path(work / "engines" / "e.onnx").read_bytes() == before
    refused = run_cli("fit", "--check", "bolt", cwd=work)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "images are in the folders that 'bolt' was fitted with" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("--product nut", "--product needs --good DIR"),
        ("--good nut", "--good needs --product NAME"),
        ("--product nut --good nut --data nut", "--good and --data exclude each other"),
        ("--product nut --good nut --category nut", "--good and --category exclude each other"),
        ("--list --remove bolt", "--list and --remove exclude each other"),
        ("--list --false-rejects 1%", "--list and --false-rejects exclude each other"),
        ("--remove bolt --product nut --good nut", "--remove and --product exclude each other"),
        ("--check nut --clean", "--check and --clean exclude each other"),
        ("--list --check nut", "--list and --check exclude each other"),
        ("--check nowhere", "nowhere: no such folder"),
        ("--remove gear", "has no product 'gear'. Products: bolt"),
        ("--false-rejects 0%", "a false-reject rate of 0 %"),
        ("--false-rejects 1", "a false-reject rate of 100 %"),
        ("--false-rejects 1,5%", "'1,5%' is not a share"),
        ("--product nut --good nowhere", "nowhere: no such folder of good images"),
        ("--product nut --good empty", "empty: no images in this folder"),
        ("--product nut --good one", "the product 'nut' has 1 different good image. Give at least 5"),
        ("--product nut --good same", "has 1 different good image among 8 files"),
        ("--product nut --good broken", "broken/a.png: not a readable image"),
        ("--product nut --good nut --runtime fpga", "fpga"),
        ("--product nut --good nut --threads 0", "--threads"),
        ("--goods nut", "no option --goods. Did you mean --good?"),
        ("", "no good images given. Give a dataset with --data DIR, or --product NAME --good DIR"),
        ("--data nowhere", "nowhere"),
        ("nowhere.onnx --list", "nowhere.onnx: no such"),
        ("nut --list", "nut: a folder of images, not an engine"),
        ("other.onnx --list", "other.onnx: has no products. Learn them from good images"),
        ("other.onnx --remove bolt", "other.onnx: has no products. Learn them from good images"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(work: Path, arguments: str, complaint: str):
    (work / "empty").mkdir()
    write_part(work / "one" / "a.png", "nut", 0)
    for number in range(8):
        write_part(work / "same" / f"{number}.png", "nut", 0)
    write_good_parts(work / "broken", "nut", 6)
    (work / "broken" / "a.png").write_text("text")
    write_engine(work / "other.onnx")
    before = products_path(work / "engines" / "e.onnx").read_bytes()
    name = [] if arguments.startswith(("nowhere", "nut", "other")) else ["engines/e.onnx"]
    done = run_cli("fit", *name, *arguments.split(), cwd=work)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr.splitlines()[-1]
    assert products_path(work / "engines" / "e.onnx").read_bytes() == before


def test_list_of_damaged_or_foreign_products_is_an_error(work: Path):
    path = products_path(work / "engines" / "e.onnx")
    content = path.read_bytes()
    for text in (content[:-50], content.replace(b'"images": 24', b'"images": 23'), b""):
        path.write_bytes(text)
        for arguments in (["--list"], ["--remove", "bolt"], ["--false-rejects", "2%"]):
            done = run_cli("fit", *arguments, cwd=work)
            assert done.returncode == 2, arguments
            assert "Fit the products again" in done.stderr
            assert path.read_bytes() == text


def test_default_images_are_those_of_the_training_with_a_note(work: Path, dataset: Path):
    engine = write_engine(work / "trained.onnx")
    dataclasses.replace(read_sidecar(engine), data=str(dataset)).write(sidecar_path(engine))
    done = run_cli("fit", engine, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "note: the model was trained on these images" in done.stdout
    assert products_path(engine).exists()
    for folder, is_noted in (("train/good", True), ("test/spot", False)):
        done = run_cli("fit", engine, "--product", "part0", "--good", dataset / "part0" / folder, cwd=work)
        assert ("the model was trained on these images" in done.stdout) == is_noted
    dataclasses.replace(read_sidecar(engine), imported=True).write(sidecar_path(engine))
    assert "note: the model may have been trained on these images" in run_cli("fit", engine, cwd=work).stdout
    dataclasses.replace(read_sidecar(engine), data="no\0path").write(sidecar_path(engine))
    done = run_cli("fit", engine, "--data", dataset, cwd=work)
    assert done.returncode == 0, done.stderr


def test_table_fits_a_terminal_of_80_columns(learned: Path):
    command = [sys.executable, "-m", "adq_edge", "fit", "engines/e.onnx", "--list"]
    parent, child = pty.openpty()
    with os.fdopen(parent, "rb", 0) as terminal:
        environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
        subprocess.run(command, cwd=str(learned), stdout=child, check=True, env=environment)
        os.close(child)
        text = b""
        while True:
            try:
                part = terminal.read(65536)
            except OSError:
                break
            if not part:
                break
            text += part
    lines = text.decode().splitlines()
    assert any("bolt" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_shares_and_areas_are_read():
    assert [parse_share(text, "-") for text in ("0.5%", " 1 % ", "0.005", "5e-3")] == [
        0.005,
        0.01,
        0.005,
        0.005,
    ]
    assert (parse_area("40", "-"), parse_area("1%", "-")) == ((40.0, 0.0), (0.0, 0.01))
