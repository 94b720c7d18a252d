"""The shape of the house: imports run one way, PyAV has one home, heavy libraries stay out of the light commands."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import grainscan

PACKAGE = Path(grainscan.__file__).parent

# A module imports only from modules before it: the order in which data flows.
ORDER = [
    "errors",
    "files",
    "config",
    "console",
    "video",
    "views",
    "spec",
    "labels",
    "synth",
    "baseline",
    "prep",
    "split",
    "metrics",
    "plots",
    "cache",
    "dataset",
    "losses",
    "runs",
    "energies",
    "model",
    "tuning",
    "engine",
    "workers",
    "inputs",
    "scan",
    "records",
    "evaluate",
    "calibrate",
    "trainer",
    "estimate",
    "plan",
    "train",
    "cluster",
    "report",
    "predict",
    "display",
    "usage",
    "cli",
    "__main__",
]


def modules() -> list[tuple[str, Path]]:
    """(name of the module or sub-package, file)."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            found.append((parts[0], path))
    return found


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, at its top or inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "grainscan":
                names |= {alias.name for alias in node.names if alias.name in ORDER}
            elif node.module.startswith("grainscan."):
                names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("grainscan.")}
    return names


def test_every_module_has_its_place() -> None:
    assert {name for name, _ in modules()} <= set(ORDER)


@pytest.mark.parametrize(("name", "path"), modules(), ids=lambda value: getattr(value, "name", value))
def test_imports_run_one_way(name: str, path: Path) -> None:
    later = {other for other in imported(path) if ORDER.index(other) > ORDER.index(name)}
    assert not later, f"{path.name} imports {later}, which come after {name}"


def test_only_video_imports_av() -> None:
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            roots = []
            if isinstance(node, ast.Import):
                roots = [alias.name.split(".")[0] for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                roots = [node.module.split(".")[0]]
            assert "av" not in roots or name == "video", path


def test_public_names_exist() -> None:
    for name in grainscan.__all__:
        assert getattr(grainscan, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        grainscan.nothing  # noqa: B018
    assert set(grainscan.__all__) <= set(dir(grainscan))


def loaded_after(code: str) -> set[str]:
    script = f"{code}\nimport sys, json\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "from typer.testing import CliRunner\nfrom grainscan.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0"
    )
    heavy = {"torch", "transformers", "sklearn", "av", "onnxruntime", "numpy", "matplotlib", "jinja2"}
    assert not heavy & loaded_after(code)


def predict_code(path: Path, workers: int) -> str:
    """A program that judges a clip on the CPU."""
    return (
        "from typer.testing import CliRunner\nfrom grainscan.cli import app\n"
        f"result = CliRunner().invoke(app, ['predict', {str(path)!r}, '--device', 'cpu', '--workers', '{workers}'])\n"
        "assert result.exit_code == 0, result.output"
    )


def test_predict_on_a_cpu_imports_no_training_library(make_clip) -> None:  # type: ignore[no-untyped-def]
    code = predict_code(make_clip("a.avi", width=128, height=128, frames=16), workers=0)
    assert not {"torch", "transformers", "sklearn", "matplotlib"} & loaded_after(code)


def test_decoding_in_workers_leaves_pyav_to_them(make_clip) -> None:  # type: ignore[no-untyped-def]
    code = predict_code(make_clip("a.avi", width=128, height=128, frames=16), workers=1)
    assert "av" not in loaded_after(code)
