"""Draw README's pictures: `python examples/pages/pictures.py` writes predict.svg and report.png beside this script.

The picture of the page needs Chromium (`apt-get install chromium`, or any `chrome` on PATH); without it, only the
picture of the terminal is drawn.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from PIL import Image
from rich.console import Console

from grainscan.options import PredictConfig
from grainscan.predict import predict
from grainscan.report import results_table, summary

HERE = Path(__file__).parent
COLUMNS = 108
SIZE = (1200, 1160)  # pixels of the page
COLOURS = 256
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def terminal(path: Path) -> None:
    """What `grainscan predict examples/clips` prints."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    outcome = predict(PredictConfig(inputs=("examples/clips",), model="small"), stdout=io.StringIO())
    console.print("[bold green]$[/] grainscan predict examples/clips")
    console.print(results_table(outcome.rows, outcome.tasks))
    console.print(summary(outcome.rows))
    console.save_svg(str(path), title="grainscan")


def page(path: Path, browser: str) -> None:
    """What `grainscan predict examples/clips -o report.html` writes, in a browser."""
    with tempfile.TemporaryDirectory() as folder:
        html, png = Path(folder, "report.html"), Path(folder, "report.png")
        predict(PredictConfig(inputs=("examples/clips",), model="small", output=html), stdout=io.StringIO())
        window = f"--window-size={SIZE[0]},{SIZE[1]}"
        flags = ("--headless", "--no-sandbox", "--hide-scrollbars", window, f"--screenshot={png}")
        subprocess.run([browser, *flags, html.as_uri()], check=True, capture_output=True)
        Image.open(png).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    with chdir(HERE.parents[1]):  # for paths as a reader sees them
        terminal(HERE / "predict.svg")
        browser = next(filter(None, map(shutil.which, BROWSERS)), None)
        if browser is None:
            sys.exit(f"no picture of the page: none of {', '.join(BROWSERS)} is installed")
        page(HERE / "report.png", browser)


if __name__ == "__main__":
    main()
