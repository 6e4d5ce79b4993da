# Tables: each row is read from the scores of its runs.


localrules:
    table,
    row,
    paper,


def scores_of(rows):
    """What a table is read from, once each."""
    found = []
    for row in rows:
        for experiment in filter(None, (row.experiment, row.minus)):
            found += [f"<results>/experiments/{score_file(row, run)}" for run in runs_of(experiment, config)]
        if row.submission:
            found.append(f"<results>/voc_test/{row.submission}.tar.gz")
    return list(dict.fromkeys(found))


def described(rows):
    """Rows as a script takes them: with the runs of each."""
    return [
        {
            **vars(row),
            "runs": runs_of(row.experiment, config) if row.experiment else [],
            "minus_runs": runs_of(row.minus, config) if row.minus else [],
            "score": WHAT[row.what],
        }
        for row in rows
    ]


def row_of(wildcards):
    """The row of the main table that an experiment gives."""
    rows = [row for row in rows_of("voc_val_miou", config) if row.experiment == wildcards.experiment]
    if not rows:
        known = ", ".join(experiments_of(rows_of("voc_val_miou", config)))
        raise WorkflowError(f"voc_val_miou has no row of an experiment {wildcards.experiment!r}; it has {known}")
    return rows


rule table:
    input:
        lambda wildcards: scores_of(rows_of(wildcards.table, config)),
    output:
        report(
            "<results>/{table}.csv",
            caption="../report/table.rst",
            category="1 Tables",
            labels=lambda wildcards: {"table": config["tables"][wildcards.table]["title"]},
        ),
    log:
        "<results>/logs/table/{table}.log",
    params:
        experiments=lambda wildcards, output: Path(output[0]).parents[wildcards.table.count("/")] / "experiments",
        rows=lambda wildcards: described(rows_of(wildcards.table, config)),
    script:
        "../scripts/table.py"


# A single row, for a cluster job or for CI.
rule row:
    input:
        lambda wildcards: scores_of(row_of(wildcards)),
    output:
        "<results>/voc_val_miou/{experiment}.csv",
    log:
        "<results>/logs/row/{experiment}.log",
    params:
        experiments=lambda wildcards, output: Path(output[0]).parents[1] / "experiments",
        rows=lambda wildcards: described(row_of(wildcards)),
    script:
        "../scripts/table.py"


rule paper:
    input:
        expand("<results>/{table}.csv", table=config["tables"]),
    output:
        report("<results>/paper.csv", caption="../report/paper.rst", category="1 Tables", labels={"table": "Every number"}),
    log:
        "<results>/logs/paper.log",
    params:
        tables=list(config["tables"]),
    script:
        "../scripts/paper.py"
