"""Results and figures for people and programs: table, JSON, JSONL, CSV, HTML.

The last stage of `predict` and `eval`. `write` and `save` take the result objects of the scanner in their order and
pass JSON, JSONL and CSV on as they come; the HTML page and the tables have to see all results first. `results_table`,
`summary` and `evaluation` are for a terminal. Rich and Jinja are imported on use.
"""

from grainscan.report.commands import write_evaluation
from grainscan.report.formats import FORMATS, replaced, save, to_line, write
from grainscan.report.tables import evaluation, results_table, summary
from grainscan.report.words import printable, verdict

__all__ = [
    "FORMATS",
    "evaluation",
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
