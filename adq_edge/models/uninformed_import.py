"""Import of the published files of Uninformed Students, a folder with one file for each network.

Source: AnomalyNet.py and anomaly_detection.py of
https://github.com/denguir/student-teacher-anomaly-detection.
The files hold only weights. The published code normalizes images with mean and deviation 0.5 and applies a
leaky ReLU to the descriptors. It measures the statistics of descriptors, error and variance at each
start.
"""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Tuple

import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.models.importers import Importer, ImportRequest
from adq_edge.models.patch_grid import Border
from adq_edge.models.patch_network import Decoder
from adq_edge.models.state_dicts import load_weights, select
from adq_edge.models.uninformed_students import UninformedStudents

_HALF = (0.5, 0.5, 0.5)
_STUDENT_KEY = re.compile(r"student_(\d{1,4})_net_(\d{1,4})/conv1\.weight")
_TEACHER_KEY = re.compile(r"teacher_(\d{1,4})_net/conv1\.weight")


def _from_published_files(request: ImportRequest) -> UninformedStudents:
    patch, numbers = _published_networks(request.state)
    model = UninformedStudents(
        request.config(
            fusion="official",
            options={
                "patch": patch,
                "students": len(numbers),
                "decoder": Decoder.LEAKY.value,
                "border": Border.ZEROS.value,
            },
            mean=_HALF,
            std=_HALF,
        )
    )
    stems = [f"teacher_{patch}_net", *(f"student_{patch}_net_{number}" for number in numbers)]
    for stem, network in zip(stems, [model.teacher, *model.students]):
        state = dict(select(request.state, f"{stem}/"))
        weight = state.get("decode.weight")
        if isinstance(weight, torch.Tensor) and weight.ndim == 2:
            state["decode.weight"] = weight[:, :, None, None]
        load_weights(network, state, f"{stem}.pt")
    return model


def _published_networks(state: Mapping[str, Any]) -> Tuple[int, List[int]]:
    """Return the patch size and the numbers of the students in a folder's files.

    Raises:
        CheckpointError: a network is missing, or the sizes differ.
    """
    teachers = {int(found[1]) for found in map(_TEACHER_KEY.fullmatch, state) if found}
    students = sorted((int(f[1]), int(f[2])) for f in map(_STUDENT_KEY.fullmatch, state) if f)
    sizes = sorted(teachers | {patch for patch, _ in students})
    if len(sizes) > 1:
        found = ", ".join(str(size) for size in sizes)
        raise CheckpointError(
            f"holds networks for patches of different sizes ({found})",
            fix="Keep one teacher and its students in a folder",
        )
    if not teachers or not students:
        missing = "teacher_PATCH_net.pt" if not teachers else "student_PATCH_net_NUMBER.pt"
        raise CheckpointError(f"lacks {missing}", fix="Copy the teacher and all students into one folder")
    return sizes[0], [number for _, number in students]


def _single_file(request: ImportRequest) -> UninformedStudents:
    raise CheckpointError(
        "is one network of Uninformed Students",
        fix="Give the folder that holds teacher_PATCH_net.pt and student_PATCH_net_NUMBER.pt",
    )


IMPORTERS = (
    Importer(
        name="Uninformed Students folder",
        signature=r"(teacher_\d{1,4}_net|student_\d{1,4}_net_\d{1,4})/conv1\.weight",
        load=_from_published_files,
        measured=False,
    ),
    Importer(name="Uninformed Students network", signature=r"decode\.weight", load=_single_file),
)
