"""Draw README's picture of a terminal: `python examples/embedded/picture.py` writes examples/predict.svg."""

from __future__ import annotations

import io
from contextlib import chdir
from pathlib import Path

from rich.console import Console

from grainscan.options import PredictConfig
from grainscan.predict import predict
from grainscan.report import results_table, summary

EXAMPLES = Path(__file__).parents[1]
WIDTH = 108  # columns


def main() -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with chdir(EXAMPLES.parent):  # for paths as a reader sees them
        outcome = predict(PredictConfig(inputs=("examples/clips",), model="small"), stdout=io.StringIO())
    console.print("[bold green]$[/] grainscan predict examples/clips")
    console.print(results_table(outcome.rows, outcome.tasks))
    console.print(summary(outcome.rows))
    console.save_svg(str(EXAMPLES / "predict.svg"), title="grainscan")


if __name__ == "__main__":
    main()
