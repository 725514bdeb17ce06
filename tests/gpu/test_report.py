"""The report on the rows of docs/run-where.md after a run on a GPU."""

from __future__ import annotations

import pytest

from factories import gpu_report
from factories.gpu_report import ENGINES, GRAPHS, RTX, TRAINING, Outcome, report, row_of, rows


def test_each_name_of_a_row_is_in_the_page():
    constants = {name: value for name, value in vars(gpu_report).items() if isinstance(value, str)}
    names = [value for name, value in constants.items() if name.isupper() and name[0] != "_"]
    assert len(names) > 5
    assert len({row_of(name) for name in names}) == len(names)
    with pytest.raises(ValueError, match=r"0 rows of .* begin with 'a part that is gone'"):
        row_of("a part that is gone")


def test_report_says_what_was_retired():
    passed, failed, skipped = Outcome("passed"), Outcome("failed"), Outcome("skipped", "no DLA core here")
    outcomes = {ENGINES: [passed, passed, skipped], RTX: [skipped], GRAPHS: [passed, failed]}
    first, *lines = report(outcomes, 7.25)
    assert first == f"docs/run-where.md: 1 of {len(rows())} rows retired in 7.2 minutes"
    found = {line[line.index("  ") :].strip(): line.split("  ")[0] for line in lines}
    assert found[row_of(ENGINES)] == "passed 2, 1 skipped"
    assert found[row_of(RTX)] == "skipped (no DLA core here)"
    assert found[row_of(GRAPHS)] == "FAILED 1 of 2"
    assert found[row_of(TRAINING)] == "no test"
