"""Search the form of Q/DQ pairs of which TensorRT-RTX makes the fewest kernels.

    python -m benchmarks.rtx_kernels BUNDLE --data ../shared/data/inspection

Each form is a graph of the same INT8 STFPM. TensorRT-RTX compiles it for a named GPU on a machine without one
and lists its kernels. The SNR of the anomaly map is that of the graph, emulated in float32, against FP32. No
engine has run: the time of a kernel is not known. Writes benchmarks/published/rtx_kernels.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.sources import image_source
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, Target
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.snr import SnrMeter
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.batch_of_one import fix_batch_of_one
from adq_edge.quantization.passes.common_weight_scale import share_weight_scales
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.joint_rounding import round_jointly
from adq_edge.quantization.passes.pipelines import Passes
from adq_edge.quantization.passes.sibling_convolutions import widen_siblings
from adq_edge.quantization.passes.strong_typing import type_as_float16
from adq_edge.quantization.passes.twin_convolutions import merge_twin_convolutions
from adq_edge.quantization.qdq import insert_qdq
from adq_edge.roofline.shapes import find_tensors
from adq_edge.roofline.workload import multiply_adds
from benchmarks import rtx_forms as forms
from benchmarks.published import publish
from factories.rtx import compile_kernels, trt


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of the graph.

    Attributes:
        name: what is done.
        passes: passes on the graph with pairs.
        typed: passes after the graph was typed as float16.
        is_integer: False for a graph without pairs.
        keeps_float32: True for a graph that is not typed as float16.
        is_emulated: False if the SNR is not that of the emulation in float32.
        gpu: the GPU that it is compiled for.
    """

    name: str
    passes: Passes = ()
    typed: Passes = ()
    is_integer: bool = True
    keeps_float32: bool = False
    is_emulated: bool = True
    gpu: str = "SM86"


FORMS = (
    Form("FP16", is_integer=False, is_emulated=False),
    Form("Q/DQ as for TensorRT"),
    Form("float32 between the pairs", keeps_float32=True),
    Form("weights stored as integers", (forms.store_integers,)),
    Form("weights rounded to one scale a layer", (forms.round_to_one_scale,)),
    Form("no pair at residual additions", (forms.without_additions,)),
    Form("pairs on both branches of residual additions", (forms.pairs_on_both_branches,)),
    Form("pairs before the ReLU", (forms.pairs_before_activations,)),
    Form("Clip instead of ReLU", (forms.clip_for_relu,)),
    Form("compute capability 7.5", gpu="SM75"),
    Form("compute capability 12.0", gpu="SM120"),
    Form("FP8 (E4M3), compute capability 8.9", (forms.in_fp8,), is_emulated=False, gpu="SM89"),
    Form("(a) one scale a layer, channels scaled behind it", (), (share_weight_scales,)),
    Form("(b) teacher and student rounded in one kernel", (), (round_jointly,)),
    Form("(a), (b)", (), (share_weight_scales, round_jointly)),
    Form(
        "(c) first layers merged, (a), (b)", (merge_twin_convolutions,), (share_weight_scales, round_jointly)
    ),
    Form(
        "**(d) skip branches widened and merged, (a), (b), (c): emitted**",
        (widen_siblings, merge_twin_convolutions),
        (share_weight_scales, round_jointly),
    ),
    Form(
        "(a) to (d) without pairs at residual additions",
        (forms.without_additions, widen_siblings, merge_twin_convolutions),
        (share_weight_scales, round_jointly),
    ),
    Form("grouped convolutions of teacher and student", (forms.group_convolutions,)),
    Form("grouped convolutions, (a)", (forms.group_convolutions,), (share_weight_scales,)),
)


def measure(
    form: Form, model: FloatModel, context: PassContext, images: np.ndarray, maps: np.ndarray
) -> Dict[str, Any]:
    """Compile a form with all outputs and with the main ones, and measure the SNR of its map in dB."""
    pairs: Passes = (insert_qdq,) if form.is_integer else ()
    before = (*pairs, *form.passes)
    typed: Passes = () if form.keeps_float32 else (type_as_float16, *form.typed)
    size = images.shape[1]
    counts = {}
    for name, further in (("all", ()), ("main", (forms.main_outputs,))):
        graph = run_passes(model.proto, (fix_batch_of_one, *before, *further, *typed), context)
        counts[name] = compile_kernels(graph.SerializeToString(), form.gpu, size)
    kernels = counts["main"]
    products = [kernel for kernel in kernels if kernel.is_product]
    formats = sorted({(kernel.precision, kernel.writes) for kernel in products})
    emulated = run_passes(model.proto, (*before, *form.typed), context)
    meter = SnrMeter()
    if form.is_emulated:
        meter.update(maps, run_map(emulated, images))
    return {
        "form": form.name,
        "gpu": form.gpu,
        "kernels_all_outputs": len(counts["all"]),
        "kernels": len(kernels),
        "products": {
            f"{reads} to {writes}": sum((k.precision, k.writes) == (reads, writes) for k in products)
            for reads, writes in formats
        },
        "rounding": sum(kernel.rounds for kernel in kernels),
        "gmacs": count_macs(emulated) / 1e9,
        "map_snr_db": meter.snr_db() if form.is_emulated else None,
    }


def count_macs(graph: onnx.ModelProto) -> int:
    """Return the multiply-adds of one image."""
    tensors = find_tensors(graph)
    return sum(multiply_adds(node, tensors) for node in graph.graph.node)


def run_map(graph: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Return the anomaly maps of a graph whose pairs are executed one by one."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.concatenate([session.run(["anomaly_map"], {"image": image[None]})[0] for image in images])


def measure_all(bundle: Bundle, data: Path, samples: int, count: int) -> List[Dict[str, Any]]:
    """Measure all forms of a bundle's model, on test images of a folder."""
    model = FloatModel.load(bundle)
    calibrated = calibrate_model(bundle, model, DEFAULT_CALIBRATOR, image_source(data, samples))
    images = np.stack(list(image_source(data, count).images(bundle.manifest.image_size)))
    maps = run_map(model.proto, images)
    float_model = calibrated.float_model
    context = PassContext(
        Target.TENSORRT, calibrated.ranges.tensors, calibrated.rounded_weights, region=float_model.region
    )
    rows = []
    for form in FORMS:
        rows.append(measure(form, float_model, context, images, maps))
        print(rows[-1], flush=True)
    return rows


def cells(row: Dict[str, Any]) -> Sequence[str]:
    """Return the cells of a form."""
    return [
        row["form"],
        str(row["kernels"]),
        str(row["kernels_all_outputs"]),
        ", ".join(f"{count} {formats}" for formats, count in row["products"].items()),
        str(row["rounding"]),
        f"{row['gmacs']:.2f}",
        "-" if row["map_snr_db"] is None else f"{row['map_snr_db']:.2f}",
    ]


def main() -> None:
    """Measure the forms and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="bundle of an STFPM")
    parser.add_argument("--data", type=Path, required=True, help="folder of images")
    parser.add_argument("--samples", type=int, default=DEFAULT_SAMPLES, help="images to calibrate on")
    parser.add_argument("--images", type=int, default=24, help="images to measure the SNR on")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    rows = measure_all(bundle, arguments.data, arguments.samples, arguments.images)
    height, width = bundle.manifest.image_size
    publish(
        "rtx_kernels",
        f"Kernels of an INT8 {bundle.manifest.arch}, {width}x{height}, by TensorRT-RTX {trt.__version__}",
        [
            *("form of the graph", "kernels", "with all outputs", "layers with weights: read to write"),
            *("kernels that only round", "GMAC", "map SNR, dB"),
        ],
        [list(cells(row)) for row in rows],
        {"tensorrt_rtx": trt.__version__, "forms": rows},
        read_environment(),
    )


if __name__ == "__main__":
    main()
