# Archives are fetched, verified and unpacked; data sets are prepared from them (docs/how-to/voc-and-coco.md).


include: "../helpers/archives.smk"
include: "../helpers/data.smk"
include: "../helpers/preflight.smk"


localrules:
    archives,
    fetch,


# Before anything else: the downloads of the tables of `report`. (Those of any target: snakemake TARGET --until fetch.)
rule archives:
    input:
        lambda wildcards: downloads(config["report"]),
    output:
        "<resources>/archives.txt",
    log:
        "<results>/logs/archives.log",
    params:
        code=digest_of("archives.py"),
        files={name: archive["file"] for name, archive in ARCHIVES.items()},
    script:
        "../scripts/archives.py"


# The archive itself is not declared: Snakemake removes the outputs of jobs that fail or are killed, and the file may have
# been put there by hand.
rule fetch:
    output:
        "<resources>/archives/{file}.json",
    log:
        "<results>/logs/fetch/{file}.log",
    priority: 100
    retries: 0  # `getam fetch` itself tries again, and goes on where it was
    params:
        name=lambda wildcards: FILES[wildcards.file],
        folder=subpath(output[0], parent=True),
        registry=uncompared(REGISTRY),
    shell:
        "getam fetch {params.name} --folder {params.folder:q} --registry {params.registry:q}"
        " --lock {params.folder:q}/archives.lock.yaml --receipt {output:q} 2>&1 | tee {log:q}"


# Verifies again: the file may have been put there by hand.
rule unpack:
    input:
        lambda wildcards: ancient(f"<resources>/archives/{ARCHIVES[wildcards.archive]['file']}.json"),
    output:
        "<resources>/unpacked/{archive}.json",
    log:
        "<results>/logs/unpack/{archive}.log",
    resources:
        mem_mb=4000,
        runtime="4h",
    params:
        archive=lambda wildcards, input: input[0].removesuffix(".json"),
        into=lambda wildcards: config["unpack"][wildcards.archive]["into"],
        only=lambda wildcards: to_options({"only": config["unpack"][wildcards.archive].get("only")}),
        registry=uncompared(REGISTRY),
        checksums=lambda wildcards: {
            key: value for key, value in ARCHIVES[wildcards.archive].items() if key in ("size", "sha256", "md5")
        },
    shell:
        "getam unpack {params.archive:q} --into {params.into:q} {params.only} --manifest {output:q} --registry {params.registry:q}"
        ' --lock "$(dirname {input:q})"/archives.lock.yaml 2>&1 | tee {log:q}'


# The splits that need archives of their own are parts, so that a target fetches no more than it needs.
rule prepare:
    input:
        lambda wildcards: [] if wildcards.part == BASE else f"<resources>/datasets/{wildcards.dataset}/{BASE}.json",
        archives=archives_of,
        labels=lambda wildcards: config["datasets"][wildcards.dataset].get("options", {}).get("labels") or [],
    output:
        "<resources>/datasets/{dataset}/{part}.json",
    log:
        "<results>/logs/prepare/{dataset}.{part}.log",
    threads: config["jobs"]["refine"]["threads"]
    resources:
        mem_mb=8000,
        runtime="4h",
    params:
        kind=lambda wildcards: config["datasets"][wildcards.dataset]["kind"],
        root=lambda wildcards: config["datasets"][wildcards.dataset].get("root", ""),
        options=options_of,
        manifests=lambda wildcards, input: to_options({"manifests": input.get("archives") or None}),
        folder=subpath(output[0], parent=True),
        code=lambda wildcards: step_digest(f"getam.data.{config['datasets'][wildcards.dataset]['kind']}"),
    shell:
        "getam prepare {params.kind} {params.root:q} {params.options} {params.manifests} --workers {threads}"
        " --output {params.folder:q} 2>&1 | tee {log:q}"
