"""Write a table as JSON with a description of the machine, and as Markdown."""

from __future__ import annotations

import dataclasses
import datetime
import sys
from pathlib import Path
from typing import Any, Dict, List

from adq_edge.core.files import write_bytes
from adq_edge.core.records import write_json
from adq_edge.hardware.environment import Environment

FOLDER = Path(__file__).parent / "published"


def publish(
    name: str,
    title: str,
    headings: List[str],
    rows: List[List[str]],
    figures: Dict[str, Any],
    machine: Environment,
) -> None:
    """Write `published/NAME.json` and `published/NAME.md`, and print the table."""
    script = Path(sys.argv[0])
    command = f"benchmarks/{script.name}"
    if script.name == "__main__.py":
        command = f"python -m benchmarks.{script.resolve().parent.name}"
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    environment = dataclasses.asdict(machine)
    write_json(
        FOLDER / f"{name}.json",
        "adq-edge/published",
        1,
        {"date": today, **figures, "environment": environment},
    )
    versions = ", ".join(f"{package} {version}" for package, version in machine.packages.items())
    lines = [
        f"# {title}",
        "",
        "| " + " | ".join(headings) + " |",
        "|" + "---|" * len(headings),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"{today}, {machine.cpu}, {machine.logical_cores} cores ({', '.join(machine.instruction_sets)}), "
        f"Python {machine.python}, {versions}.",
        f"Made by `{command}`.",
        "",
    ]
    text = "\n".join(lines)
    write_bytes(FOLDER / f"{name}.md", text.encode())
    print(text)
