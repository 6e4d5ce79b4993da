# Helpers of rules/saliency.smk.
from getam.data.saliency.onnx_models import MODELS


def source_of(described):
    """Options of `getam saliency`. One key changes the source: a path that belongs to another source is left out."""
    source, path = described["source"], described.get("path")
    if source in MODELS:
        path = path if str(path).endswith(".onnx") else f"resources/archives/{MODELS[source].file}"
    elif source not in ("authors", "pfan", "folder"):
        path = None
    return {"source": source, "threshold": described.get("threshold"), "path": path}


def maps_of(described):
    """Manifests of the archives, where the saliency maps come from archives."""
    return manifests(described) if described["source"] in ("authors", "pfan", "folder") else []


def model_of(described):
    """The file of the network, where the source is one."""
    return ancient(received(source_of(described)["path"])) if described["source"] in MODELS else []
