# The network on the images of a split: probabilities, pseudo labels, and the scores of its activation maps.
# Each image is a file, which the next job reuses after an interruption; the manifest says that a shard is complete. Weights
# are large and compared by date, so their small provenance.json tells Snakemake when they are new.


rule predict:
    input:
        dataset_of,
        trained="<results>/experiments/{run}/provenance.json",
        weights=ancient("<results>/experiments/{run}/weights.safetensors"),
    output:
        (lambda path: path if config["keep_probabilities"] else temp(path))(
            "<results>/experiments/{run}/{split}/probabilities/complete-{shard}.json"
        ),
    log:
        "<results>/logs/predict/{run}.{split}.{shard}.log",
    benchmark:
        "<results>/benchmarks/predict/{run}.{split}.{shard}.tsv"
    threads: config["jobs"]["predict"]["threads"]
    resources:
        gpu=0 if DEVICE == "cpu" else 1,
        mem_mb=config["jobs"]["predict"]["mem_mb"],
        runtime=config["jobs"]["predict"]["runtime"],
    params:
        folder=subpath(input.weights, parent=True),
        shard=lambda wildcards: wildcards.shard.replace("-of-", "/"),
        device=uncompared(DEVICE),
        experiment=uncompared(experiment_of),
        batch=config["batch"],
        settings=section("inference"),
        code=lambda wildcards: step_digest("getam.evaluation.prediction", *network_modules(wildcards.run)),
    shell:
        "getam predict {params.folder:q} --split {wildcards.split} --shard {params.shard} --batch {params.batch}"
        " --experiment {params.experiment:q} --device {params.device} 2>&1 | tee {log:q}"


rule label:
    input:
        dataset_of,
        saliency_of,
        trained="<results>/experiments/{run}/provenance.json",
        weights=ancient("<results>/experiments/{run}/weights.safetensors"),
    output:
        "<results>/experiments/{run}/{split}/pseudo_labels/complete-{shard}.json",
    log:
        "<results>/logs/label/{run}.{split}.{shard}.log",
    benchmark:
        "<results>/benchmarks/label/{run}.{split}.{shard}.tsv"
    threads: config["jobs"]["predict"]["threads"]
    resources:
        gpu=0 if DEVICE == "cpu" else 1,
        mem_mb=config["jobs"]["predict"]["mem_mb"],
        runtime=config["jobs"]["predict"]["runtime"],
    params:
        folder=subpath(input.weights, parent=True),
        shard=lambda wildcards: wildcards.shard.replace("-of-", "/"),
        device=uncompared(DEVICE),
        experiment=uncompared(experiment_of),
        batch=config["batch"],
        settings=section("data", "recipe", "maps", "training", "inference"),
        code=lambda wildcards: step_digest("getam.evaluation.labelling", *network_modules(wildcards.run)),
    shell:
        "getam label {params.folder:q} --split {wildcards.split} --shard {params.shard} --batch {params.batch}"
        " --experiment {params.experiment:q} --device {params.device} 2>&1 | tee {log:q}"


rule maps:
    input:
        dataset_of,
        saliency_of,
        trained="<results>/experiments/{run}/provenance.json",
        weights=ancient("<results>/experiments/{run}/weights.safetensors"),
    output:
        "<results>/experiments/{run}/{split}/map_iou.csv",
        "<results>/experiments/{run}/{split}/map_iou_confusion.csv",
        "<results>/experiments/{run}/{split}/map_iou_thresholds.csv",
    log:
        "<results>/logs/maps/{run}.{split}.log",
    benchmark:
        "<results>/benchmarks/maps/{run}.{split}.tsv"
    threads: config["jobs"]["predict"]["threads"]
    resources:
        gpu=0 if DEVICE == "cpu" else 1,
        mem_mb=config["jobs"]["predict"]["mem_mb"],
        runtime=config["jobs"]["predict"]["runtime"],
    params:
        folder=subpath(input.weights, parent=True),
        device=uncompared(DEVICE),
        experiment=uncompared(experiment_of),
        batch=config["batch"],
        settings=section("data", "recipe", "maps", "training", "inference"),
        code=lambda wildcards: step_digest("getam.evaluation.map_scores", *network_modules(wildcards.run)),
    shell:
        "getam maps {params.folder:q} --split {wildcards.split} --batch {params.batch}"
        " --experiment {params.experiment:q} --device {params.device} 2>&1 | tee {log:q}"
