"""The output of `predict` and `eval`: files, streams and the terminal.

`write` and `save` write results in one of `FORMATS`; `results_table`, `summary` and `evaluation` are Rich renderables
for a terminal. NumPy, Rich and Jinja are imported on use.
"""

from grainscan.report.eval_tables import EVALUATION_FORMATS, evaluation, write_evaluation
from grainscan.report.findings import Tally
from grainscan.report.formats import FORMATS, STDOUT, format_for, save, write
from grainscan.report.tables import results_table, summary
from grainscan.report.words import printable, verdict

__all__ = [
    "EVALUATION_FORMATS",
    "FORMATS",
    "STDOUT",
    "Tally",
    "evaluation",
    "format_for",
    "printable",
    "results_table",
    "save",
    "summary",
    "verdict",
    "write",
    "write_evaluation",
]
