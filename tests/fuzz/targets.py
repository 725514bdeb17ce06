"""The kinds of files that adq-edge reads, a sample of each, and the reader of each."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

from fuzz.mutations import find_places, mutate_archive, mutate_bytes, mutate_json
from fuzz.torch_files import mutate_torch_file
from fuzz.trainings import resume_qat, resume_training, write_trainings

READ, REFUSED = "read", "refused"
Mutation = Callable[[bytes, random.Random], bytes]


@dataclasses.dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        files: names of the files to mutate, relative to the sample folder; one is chosen.
        mutate: the mutation of the content.
        read: the reader; it gets the folder of the case and the name of the mutated file. It returns False
            if it ignores the file, for a file that is made again when it is damaged.
        folder: the folder of the samples that the reader needs, relative to the sample folder.
    """

    files: Tuple[str, ...]
    mutate: Mutation
    read: Callable[[Path, str], object]
    folder: str


def write_samples(folder: Path, bundle: Path) -> None:
    """Write the samples.

    Args:
        folder: an empty folder.
        bundle: a bundle of the tiny method, with its checkpoint `../parts.pt`.
    """
    from adq_edge.artifacts.precision_plan import Plan
    from adq_edge.builders.build import build
    from adq_edge.core.options import Precision
    from adq_edge.core.options import Target as Target_
    from adq_edge.models.teacher import DEMO_TEACHER
    from adq_edge.quantization.calibration_cache import CalibrationAlgorithm, write_calibration_cache
    from factories import results as make
    from factories.comparison import comparison
    from factories.images import write_dataset
    from factories.telemetry import TRANSCRIPTS

    shutil.copytree(bundle, folder / "bundle" / "parts")
    shutil.copy(bundle.parents[1] / "parts.pt", folder / "bundle" / "parts.pt")
    build(folder / "bundle" / "parts", folder / "engine" / "e.onnx", precision=Precision.INT8)
    make.write_customer(folder / "results")
    comparison().write(folder / "results" / "a-vs-b.compare.json")
    write_dataset(folder / "data" / "parts", categories=1)
    _write_visa(folder)
    texts = folder / "text"
    texts.mkdir()
    shutil.copy(TRANSCRIPTS / "jetpack6-agx-orin.txt", texts / "tegrastats.txt")
    cache = write_calibration_cache({"a": 1.0, "b:c": 2.5}, "8.5.2", CalibrationAlgorithm.ENTROPY_2)
    (texts / "calibration.cache").write_bytes(cache)
    Plan("0" * 64, Target_.X86, ("layer1", "layer2")).write(texts / "plan.json")
    study = {"data": str(folder / "data" / "parts"), "methods": {"stfpm": {"epochs": 1}}, "devices": ["cpu"]}
    (texts / "study.json").write_text(json.dumps({**study, "seconds": 1.0, "output": "study"}))
    (folder / "teacher").mkdir()
    shutil.copy(DEMO_TEACHER, folder / "teacher" / "teacher.pth")
    recording = make.engine("int8", board=make.recording(2.0))
    make.write(folder / "recording", make.bench_report([recording]), evaluated=False)
    write_rounding_key(folder / "bundle" / "parts")
    _write_products(folder / "products")
    write_trainings(folder / "training", folder / "data" / "parts")


def _write_products(folder: Path) -> None:
    from adq_edge.artifacts.products import EvidenceKind, products_path
    from adq_edge.core.files import sha256
    from factories.decisions import products_of, random_product, write_scaled_engine

    engine = write_scaled_engine(folder / "e.onnx")
    kinds = tuple(EvidenceKind)
    products = [random_product("bolt", 1, kinds=kinds), random_product("nut", 2, images=6)]
    products_of(sha256(engine), *products).write(products_path(engine))


def _write_visa(folder: Path) -> None:
    from factories.images import write_image

    rows = ["object,split,label,image,mask"]
    for number in range(4):
        name = f"candle/Data/Images/Normal/{number}.png"
        write_image(folder / "visa" / name, number)
        rows.append(f"candle,{'test' if number % 2 else 'train'},normal,{name},")
    write_image(folder / "visa" / "candle/Data/Images/Anomaly/9.png", 9)
    (folder / "visa" / "split_csv").mkdir()
    (folder / "visa" / "split_csv" / "1cls.csv").write_text("\n".join(rows))


def targets(samples: Path) -> Dict[str, Target]:
    """Return the kinds of files by name, or those of them that ADQ_EDGE_FUZZ_KINDS names."""
    found = {
        "result": Target(_names(samples, "results", "*.json"), mutate_json, _report, "results"),
        "sidecar": Target(("engine/e.onnx.json",), mutate_json, _engine, "engine"),
        "engine": Target(("engine/e.onnx",), mutate_bytes, _engine, "engine"),
        "manifest": Target(("bundle/parts/manifest.json",), mutate_json, _bundle, "bundle/parts"),
        "model": Target(("bundle/parts/model.onnx",), mutate_bytes, _bundle, "bundle/parts"),
        "ranges": Target(
            _names(samples, "bundle/parts/ranges", "*.json"), mutate_json, _ranges, "bundle/parts"
        ),
        "weights": Target(
            _names(samples, "bundle/parts/ranges", "*.npz"), mutate_archive, _weights, "bundle/parts"
        ),
        "checkpoint": Target(("bundle/parts.pt",), mutate_torch_file, _checkpoint, "bundle"),
        "image": Target(_names(samples, "data", "parts/*/test/spot/*.png"), mutate_bytes, _image, "data"),
        "mask": Target(_names(samples, "data", "parts/*/ground_truth/*/*.png"), mutate_bytes, _mask, "data"),
        "dataset": Target(_names(samples, "data", "parts/*/*/*/*.png"), mutate_bytes, _dataset, "data"),
        "table": Target(("visa/split_csv/1cls.csv",), mutate_bytes, _dataset, "visa"),
        "telemetry": Target(("text/tegrastats.txt",), mutate_bytes, _telemetry, "text"),
        "cache": Target(("text/calibration.cache",), mutate_bytes, _cache, "text"),
        "plan": Target(("text/plan.json",), mutate_json, _plan, "text"),
        "study": Target(("text/study.json",), mutate_json, _study, "text"),
        "recording": Target(_names(samples, "recording", "*.json"), mutate_json, _report, "recording"),
        "products": Target(("products/e.onnx.products",), mutate_products, _products, "products"),
        "teacher": Target(("teacher/teacher.pth",), mutate_torch_file, _teacher, "teacher"),
        "training": Target(("training/training.pt",), mutate_torch_file, resume_training, "training"),
        "qat": Target(("training/qat.pt",), mutate_torch_file, resume_qat, "training"),
    }
    wanted = os.environ.get("ADQ_EDGE_FUZZ_KINDS", "").split() or found
    return {name: found[name] for name in wanted if found[name].files}


def mutate_products(content: bytes, chance: random.Random) -> bytes:
    """Return a changed products file; half of them with other numbers in products of the right digest."""
    if chance.random() < 0.5:
        return mutate_json(content, chance)
    document = json.loads(content.decode("utf-8"))
    product = chance.choice(document["products"])
    places: List[Any] = []
    find_places(product, places)
    numbers = [(where, key) for where, key in places if isinstance(where[key], float)]
    lists = [where[key] for where, key in places if isinstance(where[key], list) and where[key]]
    for _ in range(chance.choice((1, 1, 2, 3))):
        where, key = chance.choice(numbers)
        many = chance.choice(lists)
        factor = chance.choice((-1.0, 0.0, 1e-9, 0.5, 1e9, 1e17, 1e30, 1e300))
        if chance.random() < 0.5 and all(isinstance(value, float) for value in many):
            many[:] = [value * factor for value in many]
        else:
            where[key] *= factor
    fields = json.dumps({**product, "digest": ""}, sort_keys=True)
    product["digest"] = hashlib.sha256(fields.encode("utf-8")).hexdigest()
    return json.dumps(document).encode("utf-8")


def _products(folder: Path, name: str) -> None:
    import numpy as np

    from adq_edge.decision.inspector import Verdict, load_inspector

    del name
    with load_inspector(folder / "products" / "e.onnx", threads=1) as inspector:
        for product in (None, *inspector.products.names[:2]):
            found = inspector.inspect(np.full((32, 32, 3), 90, np.uint8), product=product)
            numbers = (found.score, found.p_value, found.threshold, found.product_distance)
            assert found.verdict is Verdict.CANNOT_JUDGE or np.isfinite(numbers).all(), numbers


def _report(folder: Path, name: str) -> None:
    from adq_edge.report.report import report

    report(folder / name, folder / "report")


def _engine(folder: Path, name: str) -> None:
    import numpy as np

    from adq_edge.runtimes.registry import load_engine

    runtime = "openvino" if (folder / name).stat().st_size % 2 else None
    with load_engine(folder / "engine" / "e.onnx", trust=True, threads=1, runtime=runtime) as engine:
        height, width = engine.sidecar.image_size
        if height * width <= 256 * 256:
            engine.run(np.zeros((1, height, width, 3), np.uint8))


def _bundle(folder: Path, name: str) -> None:
    from adq_edge.artifacts.bundle import open_bundle
    from adq_edge.core.files import sha256
    from adq_edge.quantization.float_model import FloatModel
    from adq_edge.roofline.estimate import estimate

    path = folder / "bundle" / "parts"
    if name.endswith(".onnx"):  # as from someone who also wrote the manifest
        content = json.loads((path / "manifest.json").read_text())
        content["model_sha256"] = sha256(path / "model.onnx")
        (path / "manifest.json").write_text(json.dumps(content))
    FloatModel.load(open_bundle(path))
    estimate(path)


def _ranges(folder: Path, name: str) -> None:
    from adq_edge.artifacts.bundle import open_bundle
    from adq_edge.artifacts.ranges import read_ranges
    from adq_edge.quantization.equalization import equalize
    from adq_edge.quantization.float_model import FloatModel

    bundle = open_bundle(folder / "bundle" / "parts")
    model = FloatModel.load(bundle)
    ranges = read_ranges(folder / name, bundle.manifest.model_sha256, model.region.measured)
    equalize(model, ranges.equalization)


def write_rounding_key(bundle: Path) -> None:
    """Write the key of a bundle's rounded weights to a file beside them."""
    import numpy as np

    (weights,) = (bundle / "ranges").glob("*.npz")
    with np.load(weights) as arrays:
        weights.with_suffix(".key").write_text(str(arrays["key"]))


def _weights(folder: Path, name: str) -> bool:
    from adq_edge.artifacts.bundle import open_bundle
    from adq_edge.calibration.calibrated_model import read_weights
    from adq_edge.quantization.float_model import FloatModel

    model = FloatModel.load(open_bundle(folder / "bundle" / "parts"))
    return read_weights(folder / name, (folder / name).with_suffix(".key").read_text(), model) is not None


def _checkpoint(folder: Path, name: str) -> None:
    from adq_edge.models.checkpoint import load_checkpoint

    load_checkpoint(folder / name, teacher_weights="demo")


def _teacher(folder: Path, name: str) -> None:
    from adq_edge.models.stfpm import STFPM, ModelConfig
    from adq_edge.models.teacher import teacher_state

    STFPM(ModelConfig(image_size=(32, 32))).load_teacher(teacher_state(str(folder / name)))


def _image(folder: Path, name: str) -> None:
    from adq_edge.core.images.imaging import load_image

    load_image(folder / name, (64, 64))


def _mask(folder: Path, name: str) -> None:
    from adq_edge.core.images.imaging import read_mask

    read_mask(folder / name, (64, 64))


_NAMES = (
    "\x1b[31m.png",
    "x" * 250 + ".png",
    ".x.png",
    "x.PNG",
    "\udcff.png",
    "\u202e.jpg",
    "a\nb.png",
    "x.gif",
)


def _dataset(folder: Path, name: str) -> None:
    """Read a dataset in which the file stands under a strange name, too, and all of its images."""
    from adq_edge.core.images.imaging import read_image, read_mask
    from adq_edge.datasets.dataset import read_dataset

    content = (folder / name).read_bytes()
    with contextlib.suppress(OSError):
        (folder / name).with_name(_NAMES[zlib.crc32(content) % len(_NAMES)]).write_bytes(content)
    root = folder / name.split("/")[0]
    dataset = read_dataset(root / "parts" if (root / "parts").is_dir() else root)
    for category in dataset.categories:
        for sample in category.test:
            read_image(sample.path)
            for mask in sample.mask_files:
                read_mask(mask)


def _telemetry(folder: Path, name: str) -> None:
    from adq_edge.hardware.telemetry.tegrastats import parse_line

    for line in (folder / name).read_bytes().decode("utf-8", "replace").splitlines():
        parse_line(line)


def _cache(folder: Path, name: str) -> None:
    from adq_edge.quantization.calibration_cache import read_calibration_cache

    read_calibration_cache((folder / name).read_bytes())


def _plan(folder: Path, name: str) -> None:
    from adq_edge.artifacts.precision_plan import read_plan

    read_plan(folder / name, "0" * 64, ["layer1", "layer2"])


def _study(folder: Path, name: str) -> None:
    from adq_edge.study.checks import check_config
    from adq_edge.study.config_file import read_config

    check_config(read_config(folder / name))


def _names(samples: Path, folder: str, pattern: str) -> Tuple[str, ...]:
    return tuple(sorted(path.relative_to(samples).as_posix() for path in (samples / folder).glob(pattern)))
