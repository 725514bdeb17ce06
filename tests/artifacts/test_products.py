"""The products file: round trip, refusals in one line, and products that stay as they are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from adq_edge.artifacts.products import (
    EvidenceKind,
    LabeledThreshold,
    Products,
    check_product_name,
    products_path,
    read_products,
)
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.files import sha256
from factories.decisions import products_of, random_product
from factories.tiny_engine import write_engine

SHA = "a" * 64
THRESHOLD = LabeledThreshold(1.5, "cost", 100.0, 1.0, "data", 30, 12)


def write(folder: Path, *products) -> Path:
    path = folder / "e.products"
    products_of(SHA, *(products or (random_product(),))).write(path)
    return path


def change(path: Path, edit) -> None:
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def sealed(**fields):
    return dataclasses.replace(random_product(), **fields).sealed()


def refusal(path: Path) -> str:
    with pytest.raises(AdqError) as caught:
        Products.read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


def test_products_are_the_same_after_a_round_trip(tmp_path: Path):
    kinds = (EvidenceKind.RAW, EvidenceKind.DEEP_POSITION)
    found = products_of(
        SHA,
        random_product("a", kinds=kinds),
        dataclasses.replace(random_product("b"), threshold=THRESHOLD).sealed(),
    )
    found.write(tmp_path / "e.products")
    assert Products.read(tmp_path / "e.products") == found


def test_other_products_stay_bit_identical_when_one_is_added_or_removed(tmp_path: Path):
    path = write(tmp_path, random_product("bolt", 1), random_product("nut", 2))
    before = path.read_bytes()
    Products.read(path).with_products([random_product("cap", 3)]).write(path)
    added = path.read_text()
    for part in before.decode().split('"name": ')[1:]:
        numbers = part.split('"images"')[1].split('"digest"')[0]
        assert numbers in added
    Products.read(path).without(["cap"]).write(path)
    assert path.read_bytes() == before


def test_changed_digit_is_found(tmp_path: Path):
    path = write(tmp_path, random_product("bolt", 1), random_product("nut", 2))

    def edit(document):
        document["products"][1]["raw_positions"]["mean"][5] += 1e-6

    change(path, edit)
    assert "the product 'nut' was changed or damaged" in refusal(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"{", "not a JSON file"),
        (b"[" * 100_000, "not a JSON file"),
        (b'{"schema": "adq-edge/eval", "version": 1}', "not an adq-edge/products file"),
        (b'{"schema": "adq-edge/products", "version": 2}', "format version is 2"),
        (b'{"schema": "adq-edge/products", "version": 1}', "it lacks the field"),
    ],
    ids=["empty", "cut", "deep", "other schema", "other version", "no fields"],
)
def test_other_content_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "e.products"
    path.write_bytes(content)
    text = refusal(path)
    assert words in text
    assert "Fit the products again: adq-edge fit ENGINE --data DIR" in text


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path: Path, share: float):
    path = write(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "not a JSON file" in refusal(path)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_number_that_is_not_finite_is_refused(tmp_path: Path, number: str):
    path = write(tmp_path)
    path.write_text(path.read_text().replace('"false_rejects": 0.05', f'"false_rejects": {number}'))
    assert "is not a finite number" in refusal(path)


def test_file_of_100_mb_is_refused_unread(tmp_path: Path):
    path = tmp_path / "e.products"
    with path.open("wb") as file:
        file.truncate(100 * 10**6)
    assert "is 100 MB" in refusal(path)


POSITIONS = random_product().raw_positions
EVIDENCE = random_product().evidence[0]
RECOGNITION = random_product().recognition
IMPOSSIBLE = {
    "too few means": {"raw_positions": dataclasses.replace(POSITIONS, mean=POSITIONS.mean[1:])},
    "size of another map": {"raw_positions": dataclasses.replace(POSITIONS, size=(16, 16))},
    "map of 100x100": {"deep_positions": dataclasses.replace(POSITIONS, size=(100, 100))},
    "no positions": {"raw_positions": dataclasses.replace(POSITIONS, size=(0, 0), mean=(), spread=())},
    "spread of 0": {"raw_positions": dataclasses.replace(POSITIONS, spread=(0.0, *POSITIONS.spread[1:]))},
    "mean beyond float32": {
        "raw_positions": dataclasses.replace(POSITIONS, mean=(1e300, *POSITIONS.mean[1:]))
    },
    "scores of other images": {"images": 31},
    "one image": {
        "images": 1,
        "scores": (1.0,),
        "peaks": (1.0,),
        "recognition": dataclasses.replace(RECOGNITION, distances=(1.0,)),
    },
    "descending scores": {"scores": tuple(reversed(random_product().scores))},
    "score beyond float32": {"scores": (*random_product().scores[:-1], 1e300)},
    "no evidence": {"evidence": ()},
    "evidence without spread": {"evidence": (dataclasses.replace(EVIDENCE, spread=0.0),)},
    "center beyond float32": {"evidence": (dataclasses.replace(EVIDENCE, center=-1e300),)},
    "floor that float32 rounds to 0": {"raw": dataclasses.replace(random_product().raw, floor=1e-60)},
    "distance below 0": {"recognition": dataclasses.replace(RECOGNITION, distances=(-1.0,) * 30)},
    "evidence twice": {"evidence": (EVIDENCE, EVIDENCE)},
    "threshold beyond float32": {"threshold": dataclasses.replace(THRESHOLD, score=1e300)},
    "cost of 0": {"threshold": dataclasses.replace(THRESHOLD, cost_escape=0.0)},
    "fewer than no good images": {"threshold": dataclasses.replace(THRESHOLD, good=-1)},
    "no embedding": {"recognition": dataclasses.replace(RECOGNITION, mean=())},
    "embedding beyond float32": {"recognition": dataclasses.replace(RECOGNITION, mean=(1e300, 0.0, 0.0))},
    "name of two lines": {"name": "bolt\nnut"},
    "name of 101 letters": {"name": "b" * 101},
}


@pytest.mark.parametrize("fields", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_product_is_refused_in_one_line(tmp_path: Path, fields):
    assert "Fit the products again" in refusal(write(tmp_path, sealed(**fields)))


@pytest.mark.parametrize("rate", [0.0, 1.0, 1e-300, -0.1])
def test_impossible_false_reject_rate_is_refused(tmp_path: Path, rate: float):
    path = write(tmp_path)
    change(path, lambda document: document.update(false_rejects=rate))
    assert "false-reject rate" in refusal(path)


def test_two_products_of_one_name_or_of_different_engines_are_refused(tmp_path: Path):
    path = write(tmp_path)
    change(path, lambda document: document["products"].append(document["products"][0]))
    assert "two products of one name" in refusal(path)
    path = write(tmp_path, random_product("bolt"), random_product("nut", embedding=4))
    assert "embeddings of different sizes" in refusal(path)


def test_products_of_another_engine_file_are_refused(tmp_path: Path):
    engine = write_engine(tmp_path / "e.onnx")
    assert read_products(engine, sha256(engine)) is None
    assert products_path(engine) == tmp_path / "e.onnx.products"
    products_of(SHA, random_product()).write(products_path(engine))
    with pytest.raises(EngineError, match=r"fitted on another engine file\. Fit the products again"):
        read_products(engine, sha256(engine))


@pytest.mark.parametrize("name", ["", "  ", "a\tb", "\u202eb", "\ud800", "b" * 101])
def test_impossible_names_are_refused(name: str):
    with pytest.raises(ValueError, match="is not a product's name"):
        check_product_name(name)


def test_unknown_product_is_refused_with_the_known_ones():
    with pytest.raises(EngineError, match=r"has no product 'cap'\. Products: bolt, nut"):
        products_of(SHA, random_product("nut"), random_product("bolt")).without(["cap"])
