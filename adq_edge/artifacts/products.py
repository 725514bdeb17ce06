"""The products file `<engine>.products`: what an engine's decisions need to know of each product.

The arithmetic that uses these numbers is in `adq_edge.decision`, and in plain numpy in docs/decisions.md.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from pathlib import Path
from typing import Any, Iterable, Mapping, Optional, Sequence, Tuple

from adq_edge.artifacts.image_statistics import ImageStatistics
from adq_edge.artifacts.sidecar import path_beside
from adq_edge.core.errors import EngineError
from adq_edge.core.files import settle, storage_errors
from adq_edge.core.options import ThresholdRule
from adq_edge.core.records import Record, record
from adq_edge.core.text import quoted

PRODUCTS_SUFFIX = ".products"
FIT_AGAIN = "Fit the products again: adq-edge fit ENGINE --data DIR"
LARGEST_GRID = 64
"""Largest height and width of a map that decisions use; larger maps are reduced to it."""
LONGEST_NAME = 100
SMALLEST_RATE = 1e-6
"""Least false-reject rate; even the estimate of a lower one would need millions of images."""
_LARGEST_EMBEDDING = 8192
_MOST_NUMBERS = 1_800_000
"""Numbers in a file: 200 products of large maps. JSON files with more values or bytes are not read."""
_LARGEST_NUMBER = 1e18  # its square is a float32 number
_SMALLEST_SPREAD = 1e-7
_SMALLEST_FLOOR = 1e-38  # a float32 number above 0

Numbers = Tuple[float, ...]


class EvidenceKind(str, enum.Enum):
    """The maps that a score can be made of."""

    RAW = "raw"
    """The engine's own map."""
    RAW_POSITION = "raw_position"
    """The engine's own map, relative to the product's mean and spread at each position."""
    DEEP = "deep"
    """The deepest scale map."""
    DEEP_POSITION = "deep_position"
    """The deepest scale map, relative to the product's mean and spread at each position."""


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One map that a product's score is made of, and what is normal for it.

    Attributes:
        kind: a value of `EvidenceKind`.
        center: median over held-out good images of the map's largest value.
        spread: half the distance of their quantiles 0.16 and 0.84.
    """

    kind: EvidenceKind
    center: float
    spread: float


@dataclasses.dataclass(frozen=True)
class Transform:
    """The transformation of the values of a map before all else.

    Attributes:
        log: True for the natural logarithm of the values, False for the values.
        floor: the least value; smaller ones count as this.
    """

    log: bool
    floor: float


@dataclasses.dataclass(frozen=True)
class Positions:
    """Mean and spread of a map at each position, row by row.

    Attributes:
        size: (height, width) of the map.
        mean: a mean for each position.
        spread: a standard deviation for each position.
    """

    size: Tuple[int, int]
    mean: Numbers
    spread: Numbers

    def check(self) -> None:
        """Raise a ValueError if the size is impossible or values are missing."""
        height, width = self.size
        if not (1 <= height <= LARGEST_GRID and 1 <= width <= LARGEST_GRID):
            raise ValueError(f"its map is {height}x{width}")
        if not len(self.mean) == len(self.spread) == height * width:
            raise ValueError("the statistics of its positions are incomplete")
        if min(self.spread) < _SMALLEST_SPREAD or not _are_possible((*self.mean, *self.spread)):
            raise ValueError("the statistics of its positions are impossible")


@dataclasses.dataclass(frozen=True)
class Recognition:
    """How a product is recognized: by the distance of an image's embedding from the mean one.

    Attributes:
        mean: mean embedding of the good images.
        distances: distances of held-out good images, ascending.
    """

    mean: Numbers
    distances: Numbers


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A way to score that was tried on good images with pasted defects.

    Attributes:
        kinds: the maps that the score is made of.
        auroc: area under the ROC curve, held-out good images against images with pasted defects.
        error: standard error of the difference to the engine's own score.
    """

    kinds: Tuple[EvidenceKind, ...]
    auroc: float
    error: float


@dataclasses.dataclass(frozen=True)
class LabeledThreshold:
    """A threshold that was chosen with labeled defects.

    Attributes:
        score: normalized scores above it are defective.
        rule: `f1` or `cost`.
        cost_escape: cost of a missed defect, with the rule `cost`.
        cost_reject: cost of a rejected good part, with the rule `cost`.
        data: the dataset folder.
        good: number of good images.
        defective: number of defective images.
    """

    score: float
    rule: str
    cost_escape: Optional[float]
    cost_reject: Optional[float]
    data: str
    good: int
    defective: int

    def check(self) -> None:
        """Raise a ValueError if the rule is none of these, a cost is missing, or a number is impossible."""
        if self.rule not in (ThresholdRule.F1.value, ThresholdRule.COST.value):
            raise ValueError(f"a threshold has the rule {quoted(self.rule)}")
        if self.rule == ThresholdRule.COST.value and None in (self.cost_escape, self.cost_reject):
            raise ValueError("a threshold has no costs")
        costs = [cost for cost in (self.cost_escape, self.cost_reject) if cost is not None]
        if not _are_possible([self.score]) or min((1.0, *costs)) <= 0.0 or min(self.good, self.defective) < 1:
            raise ValueError("a threshold from labeled images is impossible")


@dataclasses.dataclass(frozen=True)
class Product:
    """What is normal for a product.

    Attributes:
        name: the product.
        images: number of good images that it was learned from.
        sources: the folders of these images.
        raw: transformation of the engine's map and score.
        deep: transformation of the deepest scale map.
        evidence: the maps whose mean is the product's map. Its largest value is the score.
        raw_positions: statistics of the engine's map.
        deep_positions: statistics of the deepest scale map.
        scores: normalized scores of held-out good images, ascending.
        peaks: largest values of their normalized maps, ascending; the same as `scores` for methods whose
            score is the maximum of the map.
        recognition: how the product is recognized.
        candidates: the ways to score that were tried, the engine's own first.
        suspicious: good images that were left out because they look defective (`--clean`).
        threshold: a threshold from labeled defects; None for the false-reject rate.
        digest: SHA-256 of all other fields.
        image_statistics: what is normal for the images themselves; None in older files.
    """

    name: str
    images: int
    sources: Tuple[str, ...]
    raw: Transform
    deep: Transform
    evidence: Tuple[Evidence, ...]
    raw_positions: Positions
    deep_positions: Positions
    scores: Numbers
    peaks: Numbers
    recognition: Recognition
    candidates: Tuple[Candidate, ...] = ()
    suspicious: Tuple[str, ...] = ()
    threshold: Optional[LabeledThreshold] = None
    digest: str = ""
    image_statistics: Optional[ImageStatistics] = None

    def sealed(self) -> Product:
        """Return the product with the digest of its fields."""
        return dataclasses.replace(self, digest=self._digest())

    def _digest(self) -> str:
        unsealed = dataclasses.replace(self, digest="")
        text = json.dumps(unsealed, sort_keys=True, default=_digested)  # `asdict` would copy all numbers
        return hashlib.sha256(text.encode("utf-8")).hexdigest()

    def check(self) -> None:
        """Raise a ValueError if a number is impossible or was changed."""
        if self.digest != self._digest():
            raise ValueError(f"the product {quoted(self.name)} was changed or damaged")
        check_product_name(self.name)
        self.raw_positions.check()
        self.deep_positions.check()
        size = len(self.recognition.mean)
        if not 1 <= size <= _LARGEST_EMBEDDING or not _are_possible(self.recognition.mean):
            raise ValueError(f"its embedding of {size} numbers is impossible")
        lists = (self.scores, self.peaks, self.recognition.distances)
        if not all(len(one) == self.images >= 2 and _is_ascending(one) for one in lists):
            raise ValueError(f"its scores are not those of {self.images} images")
        if self.recognition.distances[0] < 0.0:
            raise ValueError("a distance of its embeddings is below 0")
        if len({one.kind for one in self.evidence}) != len(self.evidence):
            raise ValueError("it has evidence of one kind twice")
        if not self.evidence or not all(one.spread >= _SMALLEST_SPREAD for one in self.evidence):
            raise ValueError("it has no evidence, or some without spread")
        if not _are_possible([number for one in self.evidence for number in (one.center, one.spread)]):
            raise ValueError("its evidence is impossible")
        if not all(_SMALLEST_FLOOR <= one.floor <= _LARGEST_NUMBER for one in self._logarithms):
            raise ValueError("it has a logarithm of zero")
        for part in (self.threshold, self.image_statistics):
            if part is not None:
                part.check()

    def count_numbers(self) -> int:
        """Return the number of numbers in the lists of the product."""
        positions = (self.raw_positions, self.deep_positions)
        lists = [self.scores, self.peaks, self.recognition.mean, self.recognition.distances]
        if self.image_statistics is not None:
            lists += [self.image_statistics.rows, self.image_statistics.columns]
        return sum(map(len, lists)) + sum(len(one.mean) + len(one.spread) for one in positions)

    @property
    def _logarithms(self) -> Tuple[Transform, ...]:
        return tuple(one for one in (self.raw, self.deep) if one.log)


def _digested(part: Any) -> Mapping[str, Any]:
    """Return the fields of a part of a product; files without image statistics keep their digest."""
    return {name: value for name, value in vars(part).items() if (name, value) != ("image_statistics", None)}


def _numbers(values: Any) -> Numbers:
    """Return thousands of numbers after one check of all their types."""
    if not isinstance(values, tuple) or not set(map(type, values)) <= {int, float}:
        raise TypeError("a list of numbers contains something else")
    return tuple(map(float, values))


@record("adq-edge/products", version=1, error=EngineError, fix=FIT_AGAIN, parsers={Numbers: _numbers})
@dataclasses.dataclass(frozen=True)
class Products(Record):
    """The products of an engine.

    Attributes:
        engine_sha256: hash of the engine file.
        runtime: the runtime that ran it.
        false_rejects: the share of good parts that may be rejected, 0 to 1.
        products: the products, in order of their names.
    """

    engine_sha256: str
    runtime: str
    false_rejects: float
    products: Tuple[Product, ...]

    def check(self) -> None:
        """Raise a ValueError if a product is impossible, or two have one name."""
        if not SMALLEST_RATE <= self.false_rejects < 1.0:
            raise ValueError(f"its false-reject rate is {self.false_rejects:g}")
        if len(set(self.names)) != len(self.names):
            raise ValueError("it has two products of one name")
        for product in self.products:
            product.check()
        numbers = sum(product.count_numbers() for product in self.products)
        if numbers > _MOST_NUMBERS:
            raise ValueError(f"it has {numbers:,} numbers, a file holds {_MOST_NUMBERS:,}: remove products")
        if len({len(product.recognition.mean) for product in self.products}) > 1:
            raise ValueError("its products have embeddings of different sizes")

    @property
    def names(self) -> Tuple[str, ...]:
        """The names of the products."""
        return tuple(product.name for product in self.products)

    def named(self, name: str, where: Optional[Path] = None) -> Product:
        """Return the product of this name.

        Raises:
            EngineError: there is none.
        """
        for product in self.products:
            if product.name == name:
                return product
        raise EngineError(
            f"has no product {quoted(name)}", where=where, fix=f"Products: {listed(self.names)}"
        )

    def with_products(self, added: Iterable[Product]) -> Products:
        """Return the file with further products, which replace those of the same name."""
        found = {product.name: product for product in (*self.products, *added)}
        return dataclasses.replace(self, products=tuple(found[name] for name in sorted(found)))

    def without(self, names: Sequence[str], where: Optional[Path] = None) -> Products:
        """Return the file without these products.

        Raises:
            EngineError: there is no such product.
        """
        for name in names:
            self.named(name, where)
        kept = tuple(product for product in self.products if product.name not in names)
        return dataclasses.replace(self, products=kept)


def products_path(engine: Path) -> Path:
    """Return the path of an engine's products file; of a link without one, that of the engine behind it."""
    return path_beside(engine, PRODUCTS_SUFFIX)


def read_products(engine: Path, engine_sha256: str) -> Optional[Products]:
    """Return the products of an engine; None if none were fitted.

    Args:
        engine: the engine file.
        engine_sha256: the hash of its content.

    Raises:
        EngineError: the file is damaged or belongs to another engine.
        StorageError: it cannot be read.
    """
    found = find_products(engine)
    if found is not None and found.engine_sha256 != engine_sha256:
        what = "its products were fitted on another engine file"
        raise EngineError(what, where=products_path(engine), fix=FIT_AGAIN)
    return found


def find_products(engine: Path) -> Optional[Products]:
    """Return the content of an engine's products file, also if it belongs to an earlier engine file.

    None without a file. Errors are those of `read_products`.
    """
    path = products_path(engine)
    settle(path)
    with storage_errors(path):
        if not path.exists():
            return None
    return Products.read(path)


def check_product_name(name: str) -> None:
    """Raise a ValueError if a product cannot have this name."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"{quoted(name)} is not a product's name")


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names separated by commas; at most `most` of them."""
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _is_ascending(values: Numbers) -> bool:
    return _are_possible(values) and all(a <= b for a, b in zip(values, values[1:]))


def _are_possible(values: Sequence[float]) -> bool:
    """Return False if a number is not finite, or so large that float32 arithmetic overflows."""
    return all(abs(value) <= _LARGEST_NUMBER for value in values)


def plain(values: Any) -> Numbers:
    """Return an array as a tuple of floats with nine digits, which tell all float32 numbers apart."""
    return tuple(float(f"{value:.9g}") for value in values)
