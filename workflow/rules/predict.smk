# The network on the images of a split: probabilities, the pseudo labels that its own maps would teach it, and what the
# maps themselves are worth.
# Each image is a file that an interrupted job leaves to its successor; the manifest says that a shard is whole. As
# weights are large, their small provenance.json tells Snakemake that they are new.


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
        code=step_digest("getam.evaluation.prediction"),
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
        code=step_digest("getam.evaluation.labelling"),
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
        code=step_digest("getam.evaluation.map_scores"),
    shell:
        "getam maps {params.folder:q} --split {wildcards.split} --batch {params.batch}"
        " --experiment {params.experiment:q} --device {params.device} 2>&1 | tee {log:q}"
