"""Names of folders of good and of defective images, as datasets and plants use them.

Names are compared without regard to case, punctuation, a number at the end (`good (1)`) and a word such as
`images` (`OK parts`).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Tuple

GOOD = "good"
GOOD_NAMES = (
    GOOD,
    "ok",
    "normal",
    "okay",
    "pass",
    "passed",
    "accept",
    "accepted",
    "nominal",
    "healthy",
    "intact",
    "flawless",
    "defect_free",
    "no_defect",
    "without_defect",
    "non_defective",
    "anomaly_free",
    "gut",
    "gutteil",
    "io",
    "i_o",
)
"""Names of a folder of good images, the usual ones first."""

BAD_NAMES = (
    "bad",
    "ng",
    "nok",
    "ko",
    "not_ok",
    "not_good",
    "nio",
    "n_i_o",
    "fail",
    "failed",
    "defect",
    "defective",
    "anomaly",
    "anomalies",
    "anomalous",
    "abnormal",
    "reject",
    "rejected",
    "fault",
    "faulty",
    "broken",
    "damaged",
    "schlecht",
    "schlechtteil",
)
"""Names of a folder of defective images without a kind of defect. Any other name beside a folder of good
images is a kind of defect too; these are recognized without one."""

_COUNTED = re.compile(r"_?\d+$")
_OF_IMAGES = re.compile(
    r"_(images?|imgs?|photos?|parts?|pieces?|samples?|units?|products?|copy|bilder|teile)$"
)


def is_good(name: str) -> bool:
    """Return True if a folder of this name holds good images."""
    return _has_name(name, GOOD_NAMES)


def is_bad(name: str) -> bool:
    """Return True if a folder of this name holds defective images, of no named kind of defect."""
    return _has_name(name, BAD_NAMES)


def plain(name: str) -> str:
    """Return a name in lower case, with `_` between its words and without punctuation at its ends."""
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", name).lower()).strip("_")


def _has_name(name: str, known: Tuple[str, ...]) -> bool:
    bare = _OF_IMAGES.sub("", _COUNTED.sub("", plain(name)))
    return any(form in known for form in (bare, bare[:-1] if bare.endswith(("s", "e")) else bare))
