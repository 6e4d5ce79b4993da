# From settings to weights. Training goes on where an interrupted one has ended: its checkpoints lie beside its outputs,
# where Snakemake does not remove them, and know settings, data and code that they belong to.


localrules:
    resolve,


ruleorder: convert > train


# Every setting of a run in one file, the defaults, too. What depends on which of them, the rules' params say.
rule resolve:
    output:
        "<results>/experiments/{run}/experiment.yaml",
    log:
        "<results>/logs/resolve/{run}.log",
    params:
        settings=lambda wildcards: settings(wildcards.run),
        code=step_digest("getam.experiment"),
    script:
        "../scripts/resolve.py"


rule train:
    input:
        dataset_of,
        saliency_of,
        lambda wildcards: ancient(pretrained_of(wildcards)),
        experiment=ancient("<results>/experiments/{run}/experiment.yaml"),
    output:
        weights="<results>/experiments/{run}/weights.safetensors",
        provenance="<results>/experiments/{run}/provenance.json",
    log:
        "<results>/logs/train/{run}.log",
    benchmark:
        "<results>/benchmarks/train/{run}.tsv"
    retries: 2
    threads: config["jobs"]["train"]["threads"]
    resources:
        gpu=0 if DEVICE == "cpu" else config["gpus"],
        mem_mb=config["jobs"]["train"]["mem_mb"],
        runtime=config["jobs"]["train"]["runtime"],
    params:
        folder=subpath(output.weights, parent=True),
        program=(
            f"torchrun --standalone --nproc-per-node {config['gpus']} -m getam.cli" if config["gpus"] > 1 else "getam"
        ),
        device=DEVICE,
        settings=section("seed", "data", "network", "recipe", "maps", "training"),
        code=step_digest("getam.training"),
    shell:
        "{params.program} train {input.experiment} --device {params.device} --output {params.folder} 2>&1 | tee {log}"


# The authors' weights in place of a training.
rule convert:
    input:
        dataset_of,
        checkpoint=lambda wildcards: ancient(
            f"<resources>/archives/{ARCHIVES[entry_of(wildcards.run, config)['checkpoint']]['file']}"
        ),
        experiment=ancient("<results>/experiments/{run}/experiment.yaml"),
    output:
        weights="<results>/experiments/{run}/weights.safetensors",
        provenance="<results>/experiments/{run}/provenance.json",
    log:
        "<results>/logs/convert/{run}.log",
    wildcard_constraints:
        run="|".join(map(re.escape, RELEASED)) or "$",
    params:
        folder=subpath(output.weights, parent=True),
        settings=section("network", "recipe"),
        code=step_digest("getam.checkpoints"),
    shell:
        "getam convert {input.checkpoint} {input.experiment} --output {params.folder} 2>&1 | tee {log}"
