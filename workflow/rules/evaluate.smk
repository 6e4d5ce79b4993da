# Masks, by the dense CRF and without it; their scores; the archive for the evaluation server.


localrules:
    submit,


rule refine:
    input:
        dataset_of,
        "<results>/experiments/{run}/{split}/probabilities/complete-{shard}.json",
        weights=ancient("<results>/experiments/{run}/weights.safetensors"),
    output:
        "<results>/experiments/{run}/{split}/masks/complete-{shard}.json",
        "<results>/experiments/{run}/{split}/masks_without_crf/complete-{shard}.json",
    log:
        "<results>/logs/refine/{run}.{split}.{shard}.log",
    benchmark:
        "<results>/benchmarks/refine/{run}.{split}.{shard}.tsv"
    threads: config["jobs"]["refine"]["threads"]
    resources:
        mem_mb=config["jobs"]["refine"]["mem_mb"],
        runtime=config["jobs"]["refine"]["runtime"],
    params:
        folder=subpath(input.weights, parent=True),
        shard=lambda wildcards: wildcards.shard.replace("-of-", "/"),
        experiment=uncompared(experiment_of),
        discard="" if config["keep_probabilities"] else "--discard",
        kind="",
        settings=section("crf"),
        code=step_digest("getam.evaluation.masks"),
    shell:
        "getam refine {params.folder:q} --split {wildcards.split} --shard {params.shard} --workers {threads} {params.kind}"
        " --experiment {params.experiment:q} {params.discard} 2>&1 | tee {log:q}"


# Masks to teach other networks with: of each image its own classes alone are possible.
use rule refine as refine_known_classes with:
    output:
        "<results>/experiments/{run}/{split}/masks_known_classes/complete-{shard}.json",
    log:
        "<results>/logs/refine_known_classes/{run}.{split}.{shard}.log",
    benchmark:
        "<results>/benchmarks/refine_known_classes/{run}.{split}.{shard}.tsv"
    params:
        kind="--known-classes",


rule score:
    input:
        dataset_of,
        lambda wildcards: expand(
            "<results>/experiments/{run}/{split}/{what}/complete-{shard}.json",
            run=wildcards.run,
            split=wildcards.split,
            what={name: what for what, name in MASKS.items()}[wildcards.score],
            shard=SHARDS,
        ),
    output:
        iou="<results>/experiments/{run}/{split}/{score}.csv",
        confusion="<results>/experiments/{run}/{split}/{score}_confusion.csv",
    log:
        "<results>/logs/score/{run}.{split}.{score}.log",
    wildcard_constraints:
        score="|".join(MASKS.values()),
    threads: config["jobs"]["predict"]["threads"]
    resources:
        mem_mb=4000,
        runtime="30m",
    params:
        folder=lambda wildcards, output: Path(output.iou).parents[1],
        what=lambda wildcards: {name: what for what, name in MASKS.items()}[wildcards.score],
        code=step_digest("getam.evaluation.scores"),
    shell:
        "getam score {params.folder:q} --split {wildcards.split} --what {params.what} --workers {threads} 2>&1 | tee {log:q}"


rule submit:
    input:
        lambda wildcards: descriptions(settings(wildcards.run)["data"]["dataset"], "test"),
        expand(
            "<results>/experiments/{{run}}/test/masks/complete-{shard}.json",
            shard=SHARDS,
        ),
        weights=ancient("<results>/experiments/{run}/weights.safetensors"),
    output:
        "<results>/voc_test/{run}.tar.gz",
    log:
        "<results>/logs/submit/{run}.log",
    params:
        folder=subpath(input.weights, parent=True),
        code=step_digest("getam.evaluation.submission"),
    shell:
        "getam submit {params.folder:q} --split test --output {output:q} 2>&1 | tee {log:q}"
