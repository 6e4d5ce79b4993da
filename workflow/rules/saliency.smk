# Saliency maps of the images that a network is trained on, or whose pseudo labels are scored.


include: "../helpers/saliency.smk"


rule saliency:
    input:
        lambda wildcards: maps_of(config["saliency"][wildcards.saliency]),
        lambda wildcards: model_of(config["saliency"][wildcards.saliency]),
        dataset=lambda wildcards: f"<resources>/datasets/{config['saliency'][wildcards.saliency]['dataset']}/dataset.json",
    output:
        "<resources>/saliency/{saliency}/complete-{split}.json",
    log:
        "<results>/logs/saliency/{saliency}.{split}.log",
    benchmark:
        "<results>/benchmarks/saliency/{saliency}.{split}.tsv"
    threads: config["jobs"]["refine"]["threads"]
    resources:
        mem_mb=config["jobs"]["refine"]["mem_mb"],
        runtime="12h",
    params:
        dataset=subpath(input.dataset, parent=True),
        options=lambda wildcards: to_options(
            {"splits": wildcards.split, **source_of(config["saliency"][wildcards.saliency])}
        ),
        verify=uncompared(lambda wildcards: verify(source_of(config["saliency"][wildcards.saliency]).get("path"))),
        folder=subpath(output[0], parent=True),
        code=step_digest("getam.data.saliency.maps"),
    shell:
        "{{ {params.verify} getam saliency {params.dataset:q} {params.options} --workers {threads}"
        " --output {params.folder:q}; }} 2>&1 | tee {log:q}"
