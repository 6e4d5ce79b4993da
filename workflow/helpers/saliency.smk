# Helpers of rules/saliency.smk.
def source_of(described):
    """Options of `getam saliency`. A path is left out where the source takes none, so that one key changes the source."""
    keys = ["source", "threshold", *(["path"] if described["source"] in ("folder", "u2net") else [])]
    return {key: described.get(key) for key in keys}


def maps_of(described):
    """Manifests of the archives, where the saliency maps come from archives."""
    return manifests(described) if described["source"] == "folder" else []


def model_of(described):
    """The file of the network, where the source is U2-Net."""
    return ancient(described["path"]) if described["source"] == "u2net" else []
