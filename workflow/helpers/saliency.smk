# Helpers of rules/saliency.smk.
from getam.config.saliency import described as described_maps
from getam.data.saliency.maps import SOURCES
from getam.data.saliency.onnx_models import MODELS


def maps_from(wildcards):
    """How the maps of an entry are made from a source."""
    try:
        return described_maps(wildcards.saliency, wildcards.source, config)
    except ValueError as error:
        raise WorkflowError(str(error)) from None


def options_of_maps(wildcards):
    """Options of `getam saliency`."""
    options = {key: value for key, value in maps_from(wildcards).items() if key != "archives"}
    return {**options, "path": options["path"] or model_of(wildcards) or None}


def model_of(wildcards):
    """The file of the network, where the source is one; else none."""
    if wildcards.source not in MODELS:
        return []
    return maps_from(wildcards)["path"] or f"resources/archives/{MODELS[wildcards.source].file}"


def photographs_of(wildcards):
    """The descriptions of the data set of an entry that the split needs."""
    return descriptions(f"<resources>/datasets/{config['saliency'][wildcards.saliency]['dataset']}", wildcards.split)
