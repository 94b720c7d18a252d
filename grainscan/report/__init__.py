"""The output of `predict` and `eval`: files, streams and the terminal.

`write` and `save` write results in one of `FORMATS`; `results_table`, `summary` and `evaluation` are Rich renderables
for a terminal. NumPy, Rich and Jinja are imported on use.
"""

from grainscan.report.eval_tables import evaluation, evaluation_format, write_evaluation
from grainscan.report.findings import Tally
from grainscan.report.formats import FORMATS, STDOUT, Format, format_for, replaced, save, to_line, write
from grainscan.report.tables import results_table, summary
from grainscan.report.words import printable, verdict

__all__ = [
    "FORMATS",
    "STDOUT",
    "Format",
    "Tally",
    "evaluation",
    "evaluation_format",
    "format_for",
    "printable",
    "replaced",
    "results_table",
    "save",
    "summary",
    "to_line",
    "verdict",
    "write",
    "write_evaluation",
]
