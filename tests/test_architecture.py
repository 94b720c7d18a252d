"""The shape of the house: imports run one way, PyAV has one home, heavy libraries stay out of the light commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import grainscan

ROOT = Path(__file__).parents[1]


def test_imports_run_one_way_and_heavy_libraries_keep_to_their_rooms() -> None:
    """The contracts are in pyproject.toml, [tool.importlinter]; a package that they do not place fails, too."""
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    # In a process of its own, because it silences the loggers of the one that it runs in.
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


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
