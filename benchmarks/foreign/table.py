"""The table of the imported models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional

if TYPE_CHECKING:
    from benchmarks.foreign.measuring import Settings

RUNTIMES = ("onnxruntime", "openvino")
HEADINGS = [
    "kind, category",
    "imported",
    "map, score differ: ONNX Runtime",
    "OpenVINO",
    "AUROC original",
    "FP32",
    "INT8 ONNX Runtime",
    "INT8 OpenVINO",
    "map SNR dB of INT8: ONNX Runtime, OpenVINO",
    "NNCF",
    "anomalib INT8_PTQ",
    "p50 ms FP32 / INT8 (ONNX Runtime)",
    "(OpenVINO)",
    "NNCF / anomalib p50 ms",
    "load",
    "TensorRT-RTX FP32, INT8",
]


def title(settings: Settings) -> str:
    """Return the title of the table and the notes on its columns."""
    return (
        "Models of anomalib 2.7 and AnomaVision 3.6, imported and quantized with the default settings\n\n"
        "Differences are the largest from anomalib's own module before its post-processing, relative to "
        "its largest value, on eight test images in the size of the model. AUROC: of images, on the test "
        "images of the category; `original` is the exported file in ONNX Runtime; anomalib's files resize "
        "images in their graph, by another rule than adq-edge. SNR: of the INT8 map against the FP32 map of "
        "the same runtime, less its mean. p50: median of one image on one CPU thread, all engines of a row "
        "in turn; in parentheses, INT8 as a share of FP32. Load: the machine's load average on two cores; 1 "
        "is the benchmark itself. `-`: not measured. At most "
        f"{settings.samples} calibration images. anomalib's INT8_PTQ export is calibrated on test images, "
        "half of them defective. Backbones have ImageNet weights up to layer3 where `recipes.py` says so, "
        "else random ones."
    )


def row(found: Dict[str, Any]) -> List[str]:
    """Return the table row of a model."""
    name = f"{found['kind']}, {found['category']}"
    for problem in ("not_exported", "refused", "crashed"):
        if problem in found:
            text = f"{problem.replace('_', ' ')}: {found[problem]}".replace("|", "/")
            return [name, text, *["-"] * (len(HEADINGS) - 2)]
    quality, failures = found["image_auroc"], found["failures"]
    times = found.get("p50_ms", {})

    def value(key: str) -> str:
        return "failed" if key in failures else _show(quality.get(key), ".3f")

    return [
        name,
        f"as {found['arch']}",
        *(_differences(found["parity"].get(runtime)) for runtime in RUNTIMES),
        value("original"),
        value("fp32_onnxruntime"),
        value("int8_onnxruntime"),
        value("int8_openvino"),
        ", ".join(_show(found.get("map_snr_db", {}).get(f"int8_{each}"), ".1f") for each in RUNTIMES),
        value("nncf"),
        value("tool_int8"),
        *(_ratio(times, f"fp32_{runtime}", f"int8_{runtime}") for runtime in RUNTIMES),
        _pair(times, "nncf", "tool_int8"),
        _show(found.get("load_average"), ".1f"),
        ", ".join(text.replace("|", "/") for text in found.get("compiled", {}).values()) or "-",
    ]


def _differences(found: Optional[Dict[str, float]]) -> str:
    if not found:
        return "-"
    return ", ".join("-" if name not in found else f"{found[name]:.1e}" for name in ("map", "score"))


def _pair(times: Dict[str, float], first: str, second: str) -> str:
    texts = [_show(times.get(name), ".2f") for name in (first, second)]
    return "-" if texts == ["-", "-"] else " / ".join(texts)


def _ratio(times: Dict[str, float], first: str, second: str) -> str:
    """Return two times in ms, and the second as a share of the first."""
    if first not in times or second not in times:
        return _pair(times, first, second)
    return f"{_pair(times, first, second)} ({times[second] / times[first]:.2f})"


def _show(value: Optional[float], form: str) -> str:
    return "-" if value is None else format(value, form)
