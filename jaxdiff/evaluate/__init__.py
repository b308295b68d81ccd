"""Accuracy, robust accuracy and their evidence: ledgers, tables, figures and reports. Knows functions and
arrays only.
"""

from jaxdiff.evaluate.accuracy import Proportion, clopper_pearson, proportion
from jaxdiff.evaluate.checkout import commit
from jaxdiff.evaluate.curves import accuracy_curve, loss_curves
from jaxdiff.evaluate.figures import image_grid, trajectory_strip
from jaxdiff.evaluate.fingerprints import fingerprint
from jaxdiff.evaluate.flows import flow_figure
from jaxdiff.evaluate.latex import latex_table
from jaxdiff.evaluate.ledger import Ledger, ledger_path
from jaxdiff.evaluate.machine import this_machine
from jaxdiff.evaluate.metrics import read_metrics
from jaxdiff.evaluate.panels import Attacked, attack_panel
from jaxdiff.evaluate.report import machine_notes, versions, write_report
from jaxdiff.evaluate.results import read_results, record, write_results
from jaxdiff.evaluate.robust import outcome, run_cell
from jaxdiff.evaluate.summary import summarise, worst_case
from jaxdiff.evaluate.tables import csv_table, markdown_table, terminal_table

__all__ = [
    "Attacked",
    "Ledger",
    "Proportion",
    "accuracy_curve",
    "attack_panel",
    "clopper_pearson",
    "commit",
    "csv_table",
    "fingerprint",
    "flow_figure",
    "image_grid",
    "latex_table",
    "ledger_path",
    "loss_curves",
    "machine_notes",
    "markdown_table",
    "outcome",
    "proportion",
    "read_metrics",
    "read_results",
    "record",
    "run_cell",
    "summarise",
    "terminal_table",
    "this_machine",
    "trajectory_strip",
    "versions",
    "worst_case",
    "write_report",
    "write_results",
]
