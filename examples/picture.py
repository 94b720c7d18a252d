"""Draw the terminal picture of the README: `python examples/picture.py` writes examples/predict.svg from a real run."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from grainscan.options import PredictConfig
from grainscan.predict import predict
from grainscan.report import results_table, summary

HERE = Path(__file__).parent
WIDTH = 108  # columns


def main() -> None:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    outcome = predict(PredictConfig(inputs=("examples/clips",)), stdout=io.StringIO())
    console.print("[bold green]$[/] grainscan predict examples/clips")
    console.print(results_table(outcome.rows, outcome.tasks))
    console.print(summary(outcome.rows))
    console.save_svg(str(HERE / "predict.svg"), title="grainscan")


if __name__ == "__main__":
    main()
