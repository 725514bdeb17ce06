"""Train the demo teacher that adq-edge ships, on procedural images."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from adq_edge.core.errors import AdqError
from adq_edge.core.files import megabytes
from adq_edge.models.resnet import LAYERS, ResNet18Trunk, trunk_state
from adq_edge.models.state_dicts import load_weights
from adq_edge.models.teacher import DEMO_TEACHER, teacher_state
from tools.demo_teacher.train import Progress, Recipe, train


def main() -> int:
    """Read the options, train and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_teacher", description=__doc__)
    parser.add_argument("--minutes", type=float, default=Recipe.minutes, help="training time in minutes")
    parser.add_argument(
        "--seed", type=int, default=Recipe.seed, help="seed of the first weights and of the images"
    )
    parser.add_argument(
        "--reference", help="ResNet-18 weights to imitate; torchvision's by default (a download)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="CPU threads for training; one more draws images"
    )
    parser.add_argument("--output", type=Path, default=DEMO_TEACHER, help="the weights file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(minutes=arguments.minutes, seed=arguments.seed)
    console = Console()
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    try:
        reference = ResNet18Trunk()
        load_weights(reference, trunk_state(teacher_state(arguments.reference), LAYERS), "the reference")
        with ProgressBar(*columns, console=console) as bar:
            task = bar.add_task("starting", total=1.0)

            def report(now: Progress) -> None:
                text = f"step {now.steps}, {now.images} images, loss {now.loss:.3f}"
                bar.update(task, completed=min(now.done, 1.0), description=text)

            train(recipe, reference, arguments.output, report)
    except AdqError as error:
        console.print(f"[red]{error}[/red]", highlight=False)
        return error.exit_code
    console.print(f"{arguments.output}: {megabytes(arguments.output):.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
