# Helpers of rules/data.smk.
def manifests(described):
    """Manifests of the unpacked archives of a data set, or of saliency maps."""
    return [f"<resources>/unpacked/{archive}.json" for archive in described.get("archives") or []]


def archives_of(wildcards):
    """Manifests of the archives of a part; none for a data set whose archives are null, whose files are there already."""
    described, part = described_part(wildcards)
    return manifests({} if described.get("archives") is None else part)


def described_part(wildcards):
    """A data set of the configuration, and what the configuration adds for a part."""
    described = config["datasets"][wildcards.dataset]
    parts = described.get("parts") or {}
    return described, (described if wildcards.part == BASE else parts.get(wildcards.part) or {})


def options_of(wildcards):
    """Options of `getam prepare`. Those of the data set override those of its part."""
    described, part = described_part(wildcards)
    options = {**part.get("options", {}), **described.get("options", {})}
    whole = len(PARTS[described["kind"]]) == 1
    return to_options({**options, "part": None if whole else wildcards.part})
