# Recipes for developers, run with the environment of CONTRIBUTING.md: `just`, `just test tests/test_views.py`, …

bin := env("VIRTUAL_ENV", justfile_directory() / ".venv") / if os_family() == "windows" { "Scripts" } else { "bin" }
python := bin / "python"
parallel := "-n auto --dist worksteal"

_list:
    @just --list --unsorted

# Format, lint, types and the order of imports
check:
    {{ bin }}/ruff format --check .
    {{ bin }}/ruff check .
    {{ bin }}/mypy
    {{ bin }}/lint-imports

# Put the format right, and what the linter can
fix:
    {{ bin }}/ruff check --fix .
    {{ bin }}/ruff format .

# All tests, or those of the files and with the options given
test *arguments:
    {{ python }} -m pytest {{ if arguments == "" { parallel } else { arguments } }}

# The tests that take less than a few seconds each
fast *arguments:
    {{ python }} -m pytest {{ parallel }} -m "not slow and not bench" {{ arguments }}

# Property tests with thousands of new examples instead of a few fixed ones
long *arguments:
    HYPOTHESIS_PROFILE=long {{ python }} -m pytest tests/test_properties_*.py {{ arguments }}

# Branch coverage, with the lines and branches that no test reaches
coverage *arguments:
    {{ python }} -m pytest {{ parallel }} --cov --cov-report=term-missing:skip-covered {{ arguments }}

# The fast tests with another Python and the lowest (lowest-direct) or newest (highest) versions; needs uv. What old libraries deprecate is not ours to mend
compat version="3.11" resolution="lowest-direct":
    uv venv --clear --python {{ version }} .compat
    uv pip install --python .compat --resolution {{ resolution }} --only-binary :all: --no-binary grainscan '.[dev]'
    .compat/bin/python -m pytest -p no:cacheprovider -m "not slow and not bench" -W ignore::DeprecationWarning

# The page in Chromium with axe-core; needs chromium-driver and npm
page *arguments:
    npm install --silent --prefix .axe axe-core
    AXE_CORE=.axe/node_modules/axe-core/axe.min.js {{ python }} -m pytest tests/test_page.py {{ arguments }}

# How fast scanning is, against decoding alone
bench *arguments:
    {{ python }} examples/embedded/benchmark.py {{ arguments }}

# Renew the tables of the reference and the pictures of README (these need Chromium)
pages:
    {{ python }} examples/pages/reference.py
    {{ python }} examples/pages/pictures.py
