"""The figures of boards that others sent in: valid files, without any field that adq-edge did not write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from adq_edge.core.errors import AdqError
from adq_edge.report.submission import Submission
from adq_edge.report.submit import make_submission
from factories.paths import REPOSITORY
from factories.submissions import NX, collect, run_on_board

BOARDS = REPOSITORY / "benchmarks" / "published" / "boards"


def fault(path: Path) -> Optional[str]:
    """Return what is wrong with a submission; None if nothing is."""
    try:
        submission = Submission.read(path)
    except AdqError as error:
        return str(error)
    written = json.loads(path.read_text(encoding="utf-8"))
    return None if written == json.loads(json.dumps(submission.document())) else "fields of another origin"


def test_submissions_are_as_they_were_written():
    others = [path.name for path in BOARDS.iterdir() if path.suffix != ".json" and path.name != "README.md"]
    assert not others
    assert {path.name: fault(path) for path in BOARDS.glob("*.json") if fault(path) is not None} == {}


def test_field_that_adq_edge_did_not_write_is_found(tmp_path: Path):
    path = tmp_path / "board.json"
    document = make_submission(collect(run_on_board()), NX).document()
    path.write_text(json.dumps(document))
    assert fault(path) is None
    path.write_text(json.dumps({**document, "note": "measured by Anna"}))
    assert fault(path) == "fields of another origin"
    path.write_text(json.dumps({**document, "date": "Anna"}))
    assert "date is not a text that a submission may hold" in str(fault(path))
