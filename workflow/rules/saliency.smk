# Saliency maps of the images that a network is trained on, or whose pseudo labels are scored.


include: "../helpers/saliency.smk"


rule saliency:
    input:
        lambda wildcards: manifests(maps_from(wildcards)),
        lambda wildcards: ancient(received(model_of(wildcards))),
        dataset=photographs_of,
    output:
        "<resources>/saliency/{saliency}/{source}/complete-{split}.json",
    log:
        "<results>/logs/saliency/{saliency}.{source}.{split}.log",
    benchmark:
        "<results>/benchmarks/saliency/{saliency}.{source}.{split}.tsv"
    wildcard_constraints:
        source="|".join(SOURCES),
    threads: config["jobs"]["refine"]["threads"]
    resources:
        mem_mb=config["jobs"]["refine"]["mem_mb"],
        runtime="12h",
    params:
        dataset=lambda wildcards, input: str(Path(input.dataset[0]).parent),
        options=lambda wildcards: to_options({"splits": wildcards.split, **options_of_maps(wildcards)}),
        verify=uncompared(lambda wildcards: verify(model_of(wildcards))),
        folder=subpath(output[0], parent=True),
        code=step_digest("getam.data.saliency.maps"),
    shell:
        "{{ {params.verify} getam saliency {params.dataset:q} {params.options} --workers {threads}"
        " --output {params.folder:q}; }} 2>&1 | tee {log:q}"
