# The files of this workflow, wherever it comes from.
from os import PathLike


def own(path):
    """The path of a file, given from the root; where it comes from a git host, Snakemake puts a copy into its cache."""
    file = HERE.join(path)
    return str(file) if isinstance(HERE, PathLike) else workflow.sourcecache.get_path(file)
