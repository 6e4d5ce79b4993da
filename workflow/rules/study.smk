# Tables: each row is read from the scores of its runs.


localrules:
    table,
    row,
    paper,


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
        experiments=EXPERIMENTS,
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
        experiments=EXPERIMENTS,
        rows=lambda wildcards: described(row_of(wildcards)),
    script:
        "../scripts/table.py"


rule paper:
    input:
        expand("<results>/{table}.csv", table=config["tables"]),
    output:
        report(
            "<results>/paper.csv",
            caption="../report/paper.rst",
            category="1 Tables",
            labels={"table": "Every number"},
        ),
    log:
        "<results>/logs/paper.log",
    params:
        tables=list(config["tables"]),
    script:
        "../scripts/paper.py"
