"""Lines of a table: a number of the paper beside its reproduction, and the verdict on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from getam.config.experiment import PROVENANCE
from getam.config.tables import Row, score_file
from getam.evaluation.scores import read_summary
from getam.utils.files import read_json


@dataclass(frozen=True)
class Line:
    """One line of a table. Numbers are points of mIoU; None where there is none.

    Attributes:
        reproduced, spread: mean and standard deviation over the seeds.
        difference: reproduced - paper.
        tolerance: largest difference, in hundredths of a point, that counts as reproduced, where there is a published
            number to reproduce.
        state: `reproduced`, `differs`, `measured, nothing published`, or why there is no number.
        experiment: entry that gave the number, `a - b` for a difference.
        seeds: number of runs.
        saliency: sources of the saliency maps that the runs were trained with; None where nothing was trained.
    """

    row: str
    split: str
    paper: float | None
    reproduced: float | None
    spread: float | None
    difference: float | None
    tolerance: float | None
    state: str | None
    experiment: str | None
    seeds: int | None
    saliency: str | None
    source: str
    note: str


def table_line(experiments: Path, row: Row, runs: Sequence[str], minus_runs: Sequence[str] = ()) -> Line:
    """The line of a row, from the scores of its runs.

    Args:
        experiments: folder of the runs.
        runs: runs that the number is read from, one for each seed; none where no run can give it.
        minus_runs: for a difference, the runs whose numbers are subtracted, seed by seed.

    Raises:
        FileNotFoundError, ValueError: a score file is missing, or has no mIoU.
    """
    experiment, state = row.experiment, row.state
    if row.submission:
        experiment = row.submission
        state = f"not reproducible: only the evaluation server can score voc_test/{row.submission}.tar.gz"
    reproduced = spread = difference = None
    if runs:
        values = [_miou(experiments, row, run) for run in runs]
        if row.minus:
            values = [a - _miou(experiments, row, run) for a, run in zip(values, minus_runs, strict=True)]
            experiment = f"{row.experiment} - {row.minus}"
        reproduced, spread = fmean(values), stdev(values) if len(values) > 1 else None
        state = "measured, nothing published"
        if row.paper is not None:
            difference = reproduced - row.paper
            # In hundredths, as the table shows it: 36.7 - 36.4 is above 0.3 in binary.
            state = "reproduced" if round(abs(difference), 2) <= row.tolerance else "differs"
    return Line(
        row=row.row,
        split=row.split,
        paper=row.paper,
        reproduced=reproduced,
        spread=spread,
        difference=difference,
        tolerance=row.tolerance if row.experiment and row.paper is not None else None,
        state=state,
        experiment=experiment,
        seeds=len(runs) or None,
        saliency=_saliency(experiments, [*runs, *minus_runs]),
        source=row.source,
        note=row.note,
    )


def _miou(experiments: Path, row: Row, run: str) -> float:
    """Points of mIoU of one run."""
    return 100 * read_summary(experiments / score_file(row, run))["mIoU"]


def _saliency(experiments: Path, runs: Sequence[str]) -> str | None:
    """The sources of the saliency maps of some runs, each once."""
    made = [read_json(path) for run in runs if (path := experiments / run / PROVENANCE).is_file()]
    return ", ".join(dict.fromkeys(found["saliency"] for found in made if "saliency" in found)) or None
