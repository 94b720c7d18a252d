"""Results and figures for people and programs.

The last stage of `predict` and `eval`. `write` and `save` take results in one of `FORMATS`; `results_table`, `summary`
and `evaluation` are for a terminal. NumPy, Rich and Jinja are imported on use.
"""

from grainscan.report.eval_tables import evaluation, evaluation_format, write_evaluation
from grainscan.report.formats import FORMATS, Format, format_for, replaced, save, to_line, write
from grainscan.report.tables import results_table, summary
from grainscan.report.words import count, printable, verdict

__all__ = [
    "FORMATS",
    "Format",
    "count",
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
