# Helpers of rules/data.smk.
def manifests(described):
    """Manifests of the unpacked archives of a data set, or of saliency maps."""
    return [f"<resources>/unpacked/{archive}.json" for archive in described.get("archives") or []]
