"""What the images promise, read from their Dockerfiles; docker/check_wheels.py with a stand-in for pip."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import List

import pytest

from factories.paths import REPOSITORY

dockerfile_parse = pytest.importorskip("dockerfile_parse", reason="make dev installs it")

DOCKERFILES = sorted((REPOSITORY / "docker").glob("Dockerfile.*"))
NEVER_COPIED = (
    "bundles",
    "calibration_data",
    "checkpoints",
    "demo",
    "engines",
    "predictions",
    ".git",
    ".venv",
)

# Tags that others build on in public. Near misses that do not exist: l4t-tensorrt:r8.5.2.2-runtime,
# l4t-jetpack:r35.6.0, l4t-base:r35.4.1, l4t-jetpack:r38.2.0 and any other l4t image of JetPack 7.
KNOWN_IMAGES = {
    "nvcr.io/nvidia/cuda:13.0.0-devel-ubuntu24.04",
    "nvcr.io/nvidia/l4t-jetpack:r35.4.1",
    "nvcr.io/nvidia/l4t-jetpack:r36.4.0",
    "nvcr.io/nvidia/l4t-tensorrt:r8.5.2-runtime",
    "nvcr.io/nvidia/l4t-tensorrt:r10.3.0-runtime",
    "nvcr.io/nvidia/tensorrt:26.05-py3",
    "nvidia/cuda:12.6.3-base-ubuntu24.04",
    "nvidia/cuda:12.6.3-devel-ubuntu24.04",
}


class Stage:
    """One stage of a Dockerfile: its instructions as (name, value), without FROM."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.instructions: List[tuple] = []

    def values(self, name: str) -> List[str]:
        return [value for instruction, value in self.instructions if instruction == name]

    def last(self, name: str) -> str:
        return self.values(name)[-1]


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.suffix[1:])
def stages(request, tmp_path: Path) -> List[Stage]:
    (tmp_path / "Dockerfile").write_text(request.param.read_text(encoding="utf-8"), encoding="utf-8")
    parser = dockerfile_parse.DockerfileParser(str(tmp_path))
    images = iter(parser.parent_images)
    found: List[Stage] = []
    for item in parser.structure:
        if item["instruction"] == "FROM":
            found.append(Stage(next(images)))
        elif found and item["instruction"] != "COMMENT":
            found[-1].instructions.append((item["instruction"], item["value"]))
    return found


def context_sources(stage: Stage) -> List[str]:
    """Return what a stage copies from the build context."""
    copies = [value.split() for value in stage.values("COPY") + stage.values("ADD") if "--from=" not in value]
    return [word for words in copies for word in words[:-1]]


def test_there_is_a_dockerfile_for_each_of_four_platforms():
    assert [path.name for path in DOCKERFILES] == [
        "Dockerfile.jetpack5",
        "Dockerfile.jetpack6",
        "Dockerfile.jetpack7",
        "Dockerfile.x86",
    ]


def test_stages(stages: List[Stage]):
    build, run = stages
    assert {build.image, run.image} <= KNOWN_IMAGES
    assert run.values("COPY") == ["--from=build /opt/adq-edge /opt/adq-edge"]
    assert not run.values("ADD")


def test_containers_do_not_run_as_root(stages: List[Stage]):
    run = stages[-1]
    users = [i for i, (name, _) in enumerate(run.instructions) if name == "USER"]
    assert run.last("USER") == "1000"
    assert "RUN" not in [name for name, _ in run.instructions[users[0] :]]
    assert any("useradd --uid 1000" in value for value in run.values("RUN"))
    assert run.last("WORKDIR") == run.last("VOLUME") == "/workspace"
    assert json.loads(run.last("ENTRYPOINT")) == ["adq-edge"]
    assert not run.values("CMD")


def test_jetson_user_may_use_the_gpu(stages: List[Stage]):
    if stages[-1].image.startswith("nvcr.io/nvidia/"):
        assert any("--groups video" in value for value in stages[-1].values("RUN"))


def test_health_check_asks_the_doctor(stages: List[Stage]):
    options, command = stages[-1].last("HEALTHCHECK").split(" CMD ")
    assert json.loads(command) == ["adq-edge", "doctor"]
    seconds = {"m": 60, "s": 1}
    interval = re.search(r"--interval=(\d+)([ms])", options)
    assert int(interval[1]) * seconds[interval[2]] >= 300


def test_build_imports_no_tensorrt_and_installs_no_torch(stages: List[Stage]):
    commands = "\n".join(value for stage in stages for value in stage.values("RUN"))
    assert not re.search(r"(import|from|import_module\()\W*tensorrt", commands)
    assert "torch" not in commands
    assert not re.search(r"\.\[[^]]*(train|dev)", commands)


def test_versions_are_pinned(stages: List[Stage]):
    build = stages[0]
    assert "PIP_CONSTRAINT=/source/constraints.txt" in build.last("ENV")
    assert build.last("WORKDIR") == "/source"
    assert "constraints.txt" in context_sources(build)
    pinned = {
        re.split("==| ;", line)[0] for line in (REPOSITORY / "constraints.txt").read_text().splitlines()
    }
    assert {"pip", "hatchling", "setuptools", "wheel", "pycuda", "opencv-python-headless"} <= pinned


def test_context_is_what_is_copied_and_no_more(stages: List[Stage]):
    sources = [source for stage in stages for source in context_sources(stage)]
    assert all((REPOSITORY / source).exists() for source in sources)
    assert not set(sources) & set(NEVER_COPIED)
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert sorted(line[1:] for line in patterns if line.startswith("!")) == sorted(sources)


@pytest.fixture
def check_wheels(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("tomllib", reason="docker/check_wheels.py needs Python 3.11")
    spec = importlib.util.spec_from_file_location("check_wheels", REPOSITORY / "docker" / "check_wheels.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "check_wheels", module)
    spec.loader.exec_module(module)
    return module


WHEELS = {
    "a==1.0": ["b>=2", "only-new; python_version >= '3.10'", "only-old<3; python_version < '3.9'"],
    "b==2.1": ["a", "c[fast]"],
    "c==3.0": ["quick; extra == 'fast'", "nice; extra == 'pretty'"],
    "only-old==2.5": [],
    "quick==1.0": [],
}


@pytest.fixture
def asked(check_wheels, monkeypatch: pytest.MonkeyPatch) -> List[List[str]]:
    """Let pip know WHEELS and no others; return the list of what it is asked for."""
    calls: List[List[str]] = []

    def ask_pip(pins, board):
        calls.append(list(pins))
        lacking = [pin for pin in pins if pin not in WHEELS]
        if lacking:
            return [], f"no wheel for {lacking[0]}"
        return [
            {
                "metadata": {"name": pin.partition("==")[0], "requires_dist": WHEELS[pin]},
                "download_info": {"url": f"https://index/{pin}.whl"},
            }
            for pin in pins
        ], ""

    monkeypatch.setattr(check_wheels, "_ask_pip", ask_pip)
    return calls


def test_dependencies_are_followed_as_on_the_board(check_wheels, asked):
    pins = {"a": "1.0", "b": "2.1", "c": "3.0", "only-old": "2.5", "quick": "1.0"}
    answer = check_wheels.check(["A>=1"], pins, check_wheels.BOARDS[0])
    assert answer.problems == []
    assert answer.wheels == {name: f"{name}=={pin}.whl" for name, pin in pins.items()}
    assert asked == [["a==1.0"], ["b==2.1", "only-old==2.5"], ["c==3.0"], ["quick==1.0"]]


def test_what_is_missing_is_named(check_wheels, asked):
    pins = {"a": "1.0", "b": "1.9", "without": "1", "also-without": "2"}
    answer = check_wheels.check(["a", "without", "also-without"], pins, check_wheels.BOARDS[1])
    assert answer.wheels == {"a": "a==1.0.whl"}
    assert answer.problems == [
        "without==1: no wheel for without==1",
        "also-without==2: no wheel for also-without==2",
        "b==1.9 is pinned, b>=2 is needed",
        "only-new is not pinned for Python 3.10 in constraints.txt",
    ]


def test_boards_pins_and_requirements(check_wheels):
    requirements = check_wheels.device_requirements(REPOSITORY / "pyproject.toml")
    assert {"pycuda", "onnxruntime"} <= {re.split("[><=]", line)[0] for line in requirements}
    pins = [check_wheels.read_pins(REPOSITORY / "constraints.txt", board) for board in check_wheels.BOARDS]
    assert [pin["numpy"].split(".")[:2] for pin in pins] == [["1", "23"], ["1", "26"], ["2", "4"]]
    assert all(version and not version.startswith("=") for pin in pins for version in pin.values())
    newest = check_wheels.BOARDS[0].pip_options
    assert "manylinux_2_31_aarch64" in newest
    assert "manylinux_2_32_aarch64" not in newest


def test_no_tensorrt_from_pip_on_a_jetson(check_wheels):
    project = check_wheels.tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for board in check_wheels.BOARDS:
        lines = [*project["dependencies"], *extras["jetson"], *extras["tensorrt"]]
        names = [requirement.name for requirement in check_wheels.applying(lines, (), board)]
        assert "pycuda" in names
        assert not [name for name in names if name.startswith("tensorrt")]
