# Tables: each row is read from the scores of its runs.


include: "../helpers/tables.smk"


localrules:
    table,
    row,
    bars,
    paper,


rule table:
    input:
        lambda wildcards: scores_of(rows_of(wildcards.table, config)),
    output:
        csv="<results>/{table}.csv",
        page=report(
            "<results>/figures/tables/{table}.html",
            caption="../report/table.rst",
            category="1 Tables",
            labels=lambda wildcards: {"table": config["tables"][wildcards.table]["title"]},
        ),
    log:
        "<results>/logs/table/{table}.log",
    params:
        code=[digest_of("table.py"), step_digest("getam.evaluation.tables", "getam.utils.html")],
        experiments=EXPERIMENTS,
        title=lambda wildcards: config["tables"][wildcards.table]["title"],
        rows=lambda wildcards: described(rows_of(wildcards.table, config)),
    script:
        "../scripts/table.py"


rule bars:
    input:
        "<results>/{table}.csv",
    output:
        report(
            "<results>/figures/tables/{table}.svg",
            caption="../report/table.rst",
            category="1 Tables",
            labels=lambda wildcards: {"table": f"{config['tables'][wildcards.table]['title']} (drawn)"},
        ),
    log:
        "<results>/logs/table/{table}.bars.log",
    params:
        code=digest_of("bars.py"),
    script:
        "../scripts/bars.py"


# A single row, for a cluster job or for CI.
rule row:
    input:
        lambda wildcards: scores_of(row_of(wildcards)),
    output:
        csv="<results>/voc_val_miou/{experiment}.csv",
    log:
        "<results>/logs/row/{experiment}.log",
    params:
        code=[digest_of("table.py"), step_digest("getam.evaluation.tables", "getam.utils.html")],
        experiments=EXPERIMENTS,
        title=config["tables"]["voc_val_miou"]["title"],
        rows=lambda wildcards: described(row_of(wildcards)),
    script:
        "../scripts/table.py"


rule paper:
    input:
        expand("<results>/{table}.csv", table=config["tables"]),
    output:
        "<results>/paper.csv",
    log:
        "<results>/logs/paper.log",
    params:
        code=digest_of("paper.py"),
        tables=list(config["tables"]),
    script:
        "../scripts/paper.py"
