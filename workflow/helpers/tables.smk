# Helpers of rules/tables.smk, whose rows the report shows too.
from getam.config.tables import experiments_of, rows_of, runs_of_row, score_file


def scores_of(rows):
    """The files that a table is read from, each once."""
    found = []
    for row in rows:
        for runs in runs_of_row(row, config):
            found += [f"<results>/experiments/{score_file(row, run)}" for run in runs]
        if row.submission:
            found.append(f"<results>/voc_test/{row.submission}.tar.gz")
    return list(dict.fromkeys(found))


def described(rows):
    """Rows as the script takes them: their fields, and the runs of each."""
    both = [(row, *runs_of_row(row, config)) for row in rows]
    return [{"row": vars(row), "runs": runs, "minus_runs": minus} for row, runs, minus in both]


def row_of(wildcards):
    """The row of the main table that belongs to an experiment."""
    rows = [row for row in rows_of("voc_val_miou", config) if row.experiment == wildcards.experiment]
    if not rows:
        known = ", ".join(experiments_of(rows_of("voc_val_miou", config)))
        raise WorkflowError(f"voc_val_miou has no row of an experiment {wildcards.experiment!r}; it has {known}")
    return rows
