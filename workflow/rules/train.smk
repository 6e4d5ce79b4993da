# From settings to weights. Training resumes after an interruption: checkpoints are in the folder of the outputs, undeclared, so
# that Snakemake does not remove them, and each knows the settings, data and code that it belongs to.
#
# The first phase is a rule of its own, because runs that differ only in their joint phase share it; its name is a digest
# of the settings that it depends on (getam/config/first_phase.py).
#
# SIGTERM and Ctrl-C reach the whole group of processes (`docker stop`, a terminal, a cluster's wall time), and the trainer needs
# time to save its state. So the shell waits for it (`trap`), is replaced by it (`exec`), and `tee` ignores the signal.
#
# Of a run's settings, `settings` of each rule are those that its results depend on; `experiment` are all of them, which
# the command writes to experiment.yaml.


include: "../helpers/train.smk"


envvars:
    FORCED,


rule train_first_phase:
    input:
        dataset_of,
        lambda wildcards: ancient(received(pretrained_of(wildcards))),
    output:
        state="<results>/first_phases/{run}/first_phase.pt",
        provenance="<results>/first_phases/{run}/provenance.json",
    log:
        "<results>/logs/train_first_phase/{run}.log",
    benchmark:
        "<results>/benchmarks/train_first_phase/{run}.tsv"
    wildcard_constraints:
        run=PHASE,
    threads: config["jobs"]["train"]["threads"]
    resources:
        gpu=0 if DEVICE == "cpu" else config["gpus"],
        mem_mb=config["jobs"]["train"]["mem_mb"],
        runtime=config["jobs"]["train"]["runtime"],
    params:
        verify=uncompared(lambda wildcards: verify(pretrained_of(wildcards))),
        program=uncompared(PROGRAM),
        device=uncompared(DEVICE),
        experiment=uncompared(experiment_of),
        again=again("train_first_phase"),
        folder=subpath(output.state, parent=True),
        code=lambda wildcards: step_digest("getam.training.launch", *training_modules(wildcards.run)),
    shell:
        "trap : INT TERM; {{ {params.verify} exec {params.program} train {params.experiment:q} --only-first-phase {params.again}"
        " --device {params.device} --output {params.folder:q}; }} 2>&1 | (trap '' INT TERM; exec tee {log:q})"


rule train:
    input:
        dataset_of,
        saliency_of,
        lambda wildcards: ancient(received(pretrained_of(wildcards))),
        given_labels,
        first_phase=lambda wildcards: first_phase_of(wildcards.run),
    output:
        weights="<results>/experiments/{run}/weights.safetensors",
        provenance="<results>/experiments/{run}/provenance.json",
    log:
        "<results>/logs/train/{run}.log",
    benchmark:
        "<results>/benchmarks/train/{run}.tsv"
    wildcard_constraints:
        run=TRAINED,
    threads: config["jobs"]["train"]["threads"]
    resources:
        gpu=0 if DEVICE == "cpu" else config["gpus"],
        mem_mb=config["jobs"]["train"]["mem_mb"],
        runtime=config["jobs"]["train"]["runtime"],
    params:
        verify=uncompared(lambda wildcards: verify(pretrained_of(wildcards))),
        program=uncompared(PROGRAM),
        device=uncompared(DEVICE),
        experiment=uncompared(experiment_of),
        first_phase=lambda wildcards, input: to_options({"first-phase": folder_of(input.first_phase)}),
        again=again("train", "train_first_phase"),
        folder=subpath(output.weights, parent=True),
        settings=section("seed", "data", "taught_by", "network", "recipe", "maps", "training"),
        code=lambda wildcards: step_digest("getam.training.launch", *training_modules(wildcards.run)),
    shell:
        "trap : INT TERM; {{ {params.verify} exec {params.program} train {params.experiment:q} {params.first_phase} {params.again}"
        " --device {params.device} --output {params.folder:q}; }} 2>&1 | (trap '' INT TERM; exec tee {log:q})"


# The authors' weights in place of a training.
rule convert:
    input:
        lambda wildcards: f"{settings(wildcards.run)['data']['dataset']}/{BASE}.json",
        receipt=lambda wildcards: ancient(f"<resources>/archives/{checkpoint_of(wildcards)}.json"),
    output:
        weights="<results>/experiments/{run}/weights.safetensors",
        provenance="<results>/experiments/{run}/provenance.json",
    log:
        "<results>/logs/convert/{run}.log",
    wildcard_constraints:
        run="|".join(map(re.escape, RELEASED)) or "$",
    params:
        checkpoint=lambda wildcards, input: input.receipt.removesuffix(".json"),
        verify=lambda wildcards, input, output: verify(input.receipt.removesuffix(".json")),
        experiment=uncompared(experiment_of),
        folder=subpath(output.weights, parent=True),
        settings=section("network", "recipe"),
        code=step_digest("getam.models.released", "getam.models.saving"),
    shell:
        "{{ {params.verify} getam convert {params.checkpoint:q} {params.experiment:q} --output {params.folder:q}; }}"
        " 2>&1 | tee {log:q}"
