"""Lists the archives that were fetched: name, bytes, sha256, file."""

import json
from pathlib import Path

name_of = {file: name for name, file in snakemake.params.files.items()}
lines = []
for path in map(Path, snakemake.input):
    receipt = json.loads(path.read_text())
    file = path.name.removesuffix(".json")
    lines.append(f"{name_of[file]}\t{receipt['size']}\t{receipt['sha256']}\t{file}")
text = "\n".join(sorted(lines)) + "\n"
Path(snakemake.output[0]).write_text(text)
Path(snakemake.log[0]).write_text(text)
