"""What CONTRIBUTING.md, the justfile, the hooks and the issue forms say is there, is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
JUSTFILE = (ROOT / "justfile").read_text(encoding="utf-8")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def recipes() -> dict[str, list[str]]:
    """Name to the commands of each public recipe."""
    parts = re.split(r"^([a-z]\w*)[^:=\n]*(?:=\"[^\"]*\"[^:=\n]*)*:\n", JUSTFILE, flags=re.MULTILINE)[1:]
    return {
        name: [line.strip() for line in body.splitlines() if line.startswith("    ")]
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def static_checks() -> list[str]:
    """The tools that CI runs before the tests, without their options."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    return [" ".join(words.split()[:2]) for words in re.findall(r"^\.venv/bin/(\w.*)$", script, re.MULTILINE)]


def test_every_recipe_is_documented_and_every_documented_recipe_exists() -> None:
    named = set(re.findall(r"`just (\w+)", GUIDE))
    assert named <= set(recipes())
    assert {"check", "test", "fast", "bench"} <= named


def test_every_path_in_the_guide_and_the_justfile_exists() -> None:
    paths = re.findall(r"(?<![\w./-])((?:\.ci|examples|grainscan|requirements|tests)/[\w./*-]+)", GUIDE + JUSTFILE)
    assert len(paths) > 15
    assert [path for path in paths if not list(ROOT.glob(path.rstrip(".")))] == []


def test_every_name_in_the_guide_exists() -> None:
    named = re.findall(r"`(\w+)`[^`]*[,(] ?`(grainscan/[\w/]+\.py)`", GUIDE)
    assert {"STANDARD", "BaseRecipe", "FORMATS", "ENGINES"} <= {name for name, _ in named}
    for name, path in named:
        assert re.search(rf"^(class )?{name}\b|^def {name}\b", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_ci_the_justfile_and_the_hooks_run_the_same_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    entries = [hook["entry"] for hook in hooks]
    checks = [command.removeprefix("{{ bin }}/") for command in recipes()["check"]]
    assert len(static_checks()) >= 3
    for tool in static_checks():
        assert any(command.startswith(tool) for command in checks), tool
        assert any(entry.startswith(tool) for entry in entries), tool
    assert len(entries) == len(checks)


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.stem)
def test_issue_forms_are_whole(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    ids = [item["id"] for item in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(
        item["type"] in {"textarea", "input", "dropdown"} and item["attributes"]["label"] for item in form["body"]
    )
