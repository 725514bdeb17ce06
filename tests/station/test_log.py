"""The log of `adq-edge run` as lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from factories.brokers import free_port
from factories.command_line import run_cli
from factories.parts import write_fitted_engine
from factories.stations import part_image


def test_log_of_a_run_is_json_with_the_problems_and_the_end(tmp_path: Path) -> None:
    engine = write_fitted_engine(tmp_path)
    (tmp_path / "recorded").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "recorded" / f"{number}.png"), part_image(number)[..., ::-1])
    (tmp_path / "station.toml").write_text(
        f"""
        station = {{ name = "press 4", log = "json", drain_s = 0 }}
        engines.parts.file = "{engine}"
        sources.line = {{ type = "replay", folder = "recorded", speed = 0 }}
        sinks.mes = {{ type = "webhook", url = "http://127.0.0.1:{free_port()}/" }}
        """
    )
    ended = run_cli("run", "station.toml", "--web", 0, cwd=tmp_path)
    assert ended.returncode == 1, ended.stderr
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert {line["station"] for line in lines} == {"press 4"}
    (page,) = [line["message"] for line in lines if line["subject"] == "service web"]
    assert page.startswith("http://127.0.0.1:")
    (problem,) = [line for line in lines if line["subject"] == "sink mes"]
    assert problem["level"] == "warning"
    assert "no answer (connection refused)" in problem["problem"]
    assert lines[-1]["message"].startswith("3 verdicts")
    assert "degraded at the end" in lines[-1]["problem"]
