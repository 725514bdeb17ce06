"""The C++ program of a package decides as the inspector does."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import onnxruntime
import pytest

from adq_edge.artifacts.products import EvidenceKind, Product, products_path
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.errors import EngineError
from adq_edge.decision.inspector import Inspection, Inspector, load_inspector
from adq_edge.packaging.cpp import FILES
from adq_edge.packaging.decision_file import encode_decisions
from adq_edge.packaging.outputs_only import OutputsOnly
from adq_edge.packaging.package import package
from adq_edge.runtimes.base import Output
from factories.decisions import (
    MAP_SHAPES,
    defective_image,
    good_image,
    products_of,
    random_output,
    random_product,
    random_products,
)
from factories.serving import write_fitted_engine
from factories.tiny_engine import SIZE, write_engine

COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs g++")
HEADERS = "ADQ_EDGE_ONNXRUNTIME_DIR"
"""Environment variable with the folder of ONNX Runtime's release for C++; the wheel has no headers."""
HARNESS = """
#include <iostream>
#include "decision.hpp"
int main(int count, char** arguments) {  // decision.txt, outputs of all images, pixels, sizes of the outputs
  Decider decider(arguments[1]);
  std::ifstream file(arguments[2], std::ios::binary), image(arguments[3], std::ios::binary);
  std::vector<uint8_t> pixels(size_t(decider.height) * decider.width * 3);
  std::vector<std::vector<float>> outputs;
  for (int i = 4; i < count; ++i) outputs.emplace_back(std::stoul(arguments[i]));
  for (size_t i = 0; i < outputs.size(); ++i) decider.check_size(i, outputs[i].size());
  image.read(reinterpret_cast<char*>(pixels.data()), std::streamsize(pixels.size()));
  std::cout.precision(17);
  while (true) {
    std::vector<const float*> arrays;
    for (std::vector<float>& one : outputs) {
      if (!file.read(reinterpret_cast<char*>(one.data()), std::streamsize(4 * one.size()))) return 0;
      arrays.push_back(one.data());
    }
    Verdict found = decider.decide(arrays, pixels.data());
    std::cout << found.product << "\\t" << found.verdict << "\\t" << found.score << "\\n";
  }
}
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program that decides on outputs in files, with the header of the package."""
    folder = tmp_path_factory.mktemp("harness")
    (folder / "main.cpp").write_text(HARNESS)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", f"-I{FILES}"]
    command = [str(COMPILER), *flags, "-o", str(folder / "harness"), str(folder / "main.cpp")]
    subprocess.run(command, check=True)
    return folder / "harness"


def decide(harness: Path, inspector: Inspector, outputs: Sequence[Output], image: np.ndarray) -> List[Any]:
    """Return product, verdict and score of each output, as the C++ header finds them."""
    folder = harness.parent
    (folder / "decision.txt").write_bytes(encode_decisions(inspector))
    (folder / "outputs").write_bytes(b"".join(a.tobytes() for one in outputs for a in one.arrays))
    (folder / "pixels").write_bytes(image.tobytes())
    sizes = [str(array.size) for array in outputs[0].arrays]
    files = [str(folder / name) for name in ("decision.txt", "outputs", "pixels")]
    done = subprocess.run([str(harness), *files, *sizes], check=True, capture_output=True, text=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    return [(json.loads(product), verdict, float(score)) for product, verdict, score in lines]


@needs_compiler
@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("shapes", MAP_SHAPES.values(), ids=MAP_SHAPES)
def test_header_decides_as_the_inspector(tmp_path: Path, harness: Path, shapes, log: bool):
    map_size, scale_sizes, raw_size, deep_size = shapes
    generator, verdicts = np.random.default_rng([len(scale_sizes), map_size[0], log, 7]), set()
    path = write_engine(tmp_path / "e.onnx")
    sidecar = dataclasses.replace(
        read_sidecar(path), map_size=map_size, scale_sizes=scale_sizes, embedding_size=3
    )
    engine, blank = OutputsOnly(path, sidecar), np.zeros((SIZE, SIZE, 3), np.uint8)
    for _ in range(3):
        products = random_products(generator, raw_size, deep_size, log)
        inspector = Inspector(engine, products)
        outputs = [random_output(generator, products, map_size, scale_sizes) for _ in range(12)]
        for output, found in zip(outputs, decide(harness, inspector, outputs, blank)):
            expected = inspector.judge(output, blank[None], (SIZE, SIZE), "x")
            assert found[:2] == (expected.product, expected.verdict.value)
            assert found[2] == pytest.approx(expected.score, rel=2e-6, abs=2e-6)
            verdicts.add(found[1])
    assert len(verdicts) >= 2


@needs_compiler
def test_header_recognizes_products_by_the_thumbnails_of_the_inspector(tmp_path: Path, harness: Path):
    path = write_engine(tmp_path / "e.onnx")
    products = [random_product(name, 1, deep_size=(16, 16), embedding=192) for name in ("bolt", "nut")]
    engine = OutputsOnly(path, read_sidecar(path))
    inspector = Inspector(engine, products_of("0" * 64, *products))
    generator = np.random.default_rng(3)
    for _ in range(20):
        image = generator.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
        output = Output(np.ones((1, SIZE, SIZE), np.float32), np.ones(1, np.float32))
        expected = inspector.judge(output, image[None], (SIZE, SIZE), "x")
        assert decide(harness, inspector, [output], image)[0][:2] == (
            expected.product,
            expected.verdict.value,
        )


def with_threshold_at(product: Product, score: float) -> Product:
    """Return a product whose every good image has this score."""
    scores = (score,) * product.images
    return dataclasses.replace(product, scores=scores, peaks=scores).sealed()


@needs_compiler
@pytest.mark.parametrize("log", [True, False])
def test_a_score_at_the_threshold_and_its_neighbors_are_judged_alike(
    tmp_path: Path, harness: Path, log: bool
):
    """numpy's logarithm and the C library's differ in the last bit; the verdict must not."""
    path = write_engine(tmp_path / "e.onnx")
    sidecar = dataclasses.replace(read_sidecar(path), scale_sizes=((8, 8),), embedding_size=3)
    engine, blank = OutputsOnly(path, sidecar), np.zeros((SIZE, SIZE, 3), np.uint8)
    for number in range(3):
        product = random_product(seed=number, kinds=(EvidenceKind.RAW,), log=log)
        embedding = np.array([product.recognition.mean], np.float32)
        start = np.float32(np.exp(np.random.default_rng(number).normal()))

        def output(score: np.float32, embedding: np.ndarray = embedding) -> Output:
            maps = np.full((1, SIZE, SIZE), score, np.float32)
            return Output(maps, np.array([score]), embedding, (maps[:, :8, :8].copy(),))

        def judge(inspector: Inspector, score: np.float32, output: Any = output) -> Inspection:
            return inspector.judge(output(score), blank[None], (SIZE, SIZE), "x")

        first = judge(Inspector(engine, products_of("0" * 64, product)), start)
        inspector = Inspector(engine, products_of("0" * 64, with_threshold_at(product, first.score)))
        bits = start.view(np.uint32) + np.arange(-20, 21)
        scores = bits.astype(np.uint32).view(np.float32)
        found = decide(harness, inspector, [output(score) for score in scores], blank)
        expected = [judge(inspector, score).verdict.value for score in scores]
        assert [verdict for _, verdict, _ in found] == expected
        assert set(expected) == {"good", "defective"}
        assert judge(inspector, start).verdict.value == "good"


def test_products_by_thumbnails_of_an_odd_input_are_refused(tmp_path: Path):
    path = write_engine(tmp_path / "e.onnx")
    sidecar = dataclasses.replace(read_sidecar(path), image_size=(30, 32))
    product = random_product(deep_size=(16, 16), embedding=192)
    inspector = Inspector(OutputsOnly(path, sidecar), products_of("0" * 64, product))
    with pytest.raises(EngineError, match="multiples of 8"):
        encode_decisions(inspector)


@needs_compiler
@pytest.mark.parametrize("content", ["", "adq-edge-decision 2", "adq-edge-decision 1\nengine"])
def test_header_refuses_a_file_that_is_cut_off_or_of_another_version(harness: Path, content: str):
    (harness.parent / "decision.txt").write_text(content)
    command = [str(harness), str(harness.parent / "decision.txt"), "x", "y"]
    assert subprocess.run(command, capture_output=True).returncode != 0


@needs_compiler
def test_header_refuses_numbers_that_a_hand_has_spoilt(tmp_path: Path, harness: Path):
    path = write_engine(tmp_path / "e.onnx")
    sidecar = dataclasses.replace(read_sidecar(path), scale_sizes=((8, 8),), embedding_size=3)
    product = random_product(deep_size=(8, 8))
    inspector = Inspector(OutputsOnly(path, sidecar), products_of("0" * 64, product))
    lines = encode_decisions(inspector).decode("ascii").splitlines()
    sizes = list(map(str, [SIZE * SIZE, 1, 3, 8 * 8]))
    command = [str(harness), str(harness.parent / "decision.txt"), "x", "y", *sizes]

    def run(changed: Sequence[str]) -> Tuple[int, str]:
        (harness.parent / "decision.txt").write_text("\n".join(changed))
        done = subprocess.run(command, capture_output=True, text=True)
        return done.returncode, done.stderr

    assert run(lines)[0] == 0
    for number, line in enumerate(lines):
        words = line.split(" ")
        is_named = words[0] in ("adq-edge-decision", "engine", "product", "end")
        for place in () if is_named else range(1, min(len(words), 5)):
            is_word = not words[place].lstrip("+-").startswith(tuple("0123456789"))
            for bad in () if is_word else ("-1", "999999999999", "2000000", "x", "nan", "1e999x"):
                changed = " ".join([*words[:place], bad, *words[place + 1 :]])
                code, error = run([*lines[:number], changed, *lines[number + 1 :]])
                assert code in (0, -6), (changed[:80], code)  # 0: a possible number; -6: an exception
                assert code == 0 or "decision.txt" in error, error
                assert code != 0 or bad not in ("x", "nan", "1e999x"), changed[:80]


@needs_compiler
@pytest.mark.parametrize("output", range(5))
def test_header_refuses_outputs_of_an_engine_with_other_sizes(tmp_path: Path, harness: Path, output: int):
    path = write_engine(tmp_path / "e.onnx")
    scale_sizes = ((16, 16), (8, 8))
    sidecar = dataclasses.replace(read_sidecar(path), scale_sizes=scale_sizes, embedding_size=3)
    inspector = Inspector(OutputsOnly(path, sidecar), products_of("0" * 64, random_product(deep_size=(8, 8))))
    sizes = [SIZE * SIZE, 1, 3, 16 * 16, 8 * 8]
    sizes[output] += 1
    (harness.parent / "decision.txt").write_bytes(encode_decisions(inspector))
    command = [str(harness), str(harness.parent / "decision.txt"), "x", "y", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True)
    is_read = output != 3  # of the scale maps, only the last one
    assert ("it is of another engine" in done.stderr, done.returncode != 0) == (is_read, is_read)


def find_onnxruntime(folder: Path) -> Dict[str, str]:
    """Return the variables for CMake: headers of a release, and the library that Python loads."""
    if HEADERS not in os.environ:
        pytest.skip(f"needs the headers of ONNX Runtime: set {HEADERS}")
    library = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(library)
    include = Path(os.environ[HEADERS]) / "include"
    return {
        "ONNXRUNTIME_DIR": os.environ[HEADERS],
        "ONNXRUNTIME_INCLUDE": str(include),
        "ONNXRUNTIME_LIBRARY": str(folder / "libonnxruntime.so"),
    }


@needs_compiler
def test_program_gives_scores_equal_to_the_last_bit_and_equal_verdicts(tmp_path: Path):
    variables = find_onnxruntime(tmp_path)
    if shutil.which("cmake") is None:
        pytest.skip("needs cmake")
    engine = write_fitted_engine(tmp_path / "parts-int8.onnx")
    package(engine, "cpp", tmp_path / "cpp")
    options = [f"-D{name}={value}" for name, value in variables.items()]
    subprocess.run(["cmake", "-B", "build", *options], cwd=str(tmp_path / "cpp"), check=True)
    subprocess.run(["cmake", "--build", "build"], cwd=str(tmp_path / "cpp"), check=True)
    images = [
        make(("bolt", "nut")[seed % 2], seed) for seed in range(50) for make in (good_image, defective_image)
    ]
    images.append(np.full((SIZE, SIZE, 3), 255, np.uint8))  # its map is infinite
    for number, image in enumerate(images):
        head = f"P6\n{SIZE} {SIZE}\n255\n".encode()
        (tmp_path / f"{number:03}.ppm").write_bytes(head + image.tobytes())
    (tmp_path / "999.ppm").write_bytes(b"P6 1 1 255\nabc")
    files = sorted(map(str, tmp_path.glob("*.ppm")))
    program = [str(tmp_path / "cpp" / "build" / "inspect"), "parts-int8.onnx", "decision.txt", *files]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(program, cwd=str(tmp_path / "cpp"), env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    with Path("/dev/full").open("w") as full:
        lost = subprocess.run(program, cwd=str(tmp_path / "cpp"), env=environment, stdout=full)
    assert lost.returncode == 2
    found = [json.loads(line) for line in done.stdout.splitlines()]
    with load_inspector(engine) as inspector:
        for one, image in zip(found, images):
            expected = inspector.inspect(image)
            assert (one["verdict"], one["score"]) == (expected.verdict.value, expected.raw_score)
            assert one["product"] == expected.product
    assert found[-1]["verdict"] == "cannot judge"
    assert "is 1x1, the engine takes 32x32" in found[-1]["error"]
    assert products_path(engine).is_file()
