# One page that a reader of the paper understands: tables, curves, classes, pictures, and where each came from.


include: "../helpers/report.smk"


localrules:
    history,
    classes,
    run_page,
    report,
    workflow_report,


rule history:
    input:
        "<results>/experiments/{run}/provenance.json",
    output:
        report(
            "<results>/figures/{run}/history.svg",
            caption="../report/history.rst",
            category="2 Training",
            labels=labels_of("losses"),
        ),
    log:
        "<results>/logs/figures/{run}.history.log",
    params:
        code=digest_of("history.py"),
        history=lambda wildcards, input: Path(input[0]).with_name("history.csv"),
    script:
        "../scripts/history.py"


rule classes:
    input:
        iou="<results>/experiments/{run}/{split}/iou.csv",
        without_crf="<results>/experiments/{run}/{split}/iou_without_crf.csv",
        confusion="<results>/experiments/{run}/{split}/iou_confusion.csv",
    output:
        bars=report(
            "<results>/figures/{run}/classes_{split}.svg",
            caption="../report/classes.rst",
            category="3 Classes",
            labels=labels_of("IoU of each class"),
        ),
        confusion=report(
            "<results>/figures/{run}/confusion_{split}.svg",
            caption="../report/confusion.rst",
            category="3 Classes",
            labels=labels_of("confusion"),
        ),
    log:
        "<results>/logs/figures/{run}.{split}.classes.log",
    params:
        code=digest_of("classes.py"),
    script:
        "../scripts/classes.py"


rule panels:
    input:
        expand(
            "<results>/experiments/{{run}}/{{split}}/{what}/complete-{shard}.json",
            what=["masks", "pseudo_labels"],
            shard=SHARDS,
        ),
        weights=ancient("<results>/experiments/{run}/weights.safetensors"),
    output:
        report(
            "<results>/figures/{run}/panels_{split}.png",
            caption="../report/panels.rst",
            category="4 Pictures",
            labels=labels_of("image to prediction"),
        ),
    log:
        "<results>/logs/figures/{run}.{split}.panels.log",
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        folder=subpath(input.weights, parent=True),
        images=8,
        worst=4,
        code=[
            digest_of("panels.py"),
            step_digest("getam.method.explanation", "getam.data.visualisation", "getam.evaluation.scores"),
        ],
    script:
        "../scripts/panels.py"


rule run_page:
    input:
        lambda wildcards: [
            f"<results>/experiments/{wildcards.run}/{split}/{what}/complete-{shard}.json"
            for run, split in reported()
            if run == wildcards.run
            for what in shown_of(run)
            for shard in SHARDS
        ],
        provenance="<results>/experiments/{run}/provenance.json",
    output:
        report(
            "<results>/figures/{run}/run.html",
            caption="../report/run.rst",
            category="5 Provenance",
            labels=labels_of("how it was made"),
        ),
    log:
        "<results>/logs/figures/{run}.run.log",
    params:
        code=[digest_of("run_page.py"), step_digest("getam.utils.html")],
        experiment=lambda wildcards, input: Path(input.provenance).with_name("experiment.yaml"),
        benchmarks=f"{RESULTS}/benchmarks",
    script:
        "../scripts/run_page.py"


rule report:
    input:
        expand("<results>/{table}.csv", table=config["report"]),
        expand("<results>/figures/tables/{table}.svg", table=config["report"]),
        figures,
    output:
        "<results>/report.html",
    log:
        "<results>/logs/report.log",
    params:
        code=[digest_of("report.py", *captions().values()), step_digest("getam.evaluation.report", "getam.utils.html")],
        captions=uncompared({name: own(f"workflow/{path.removeprefix('../')}") for name, path in captions().items()}),
        config={name: config[name] for name in ("report", "tables")},
        results=subpath(output[0], parent=True),
        runs=reported(),
    script:
        "../scripts/report.py"


# Snakemake's own report: the same figures in a menu, and the workflow's rules, code and times.
rule workflow_report:
    input:
        expand("<results>/figures/tables/{table}.{kind}", table=config["report"], kind=["html", "svg"]),
        figures,
    output:
        "<results>/workflow_report.html",
    log:
        "<results>/logs/workflow_report.log",
    params:
        snakefile=workflow.main_snakefile,
        code=digest_of("workflow_report.py", *captions().values()),
        config=config,
    script:
        "../scripts/workflow_report.py"
