# Which archives a table needs, asked of the functions that give the rules their inputs.
from itertools import chain
from types import SimpleNamespace


def downloads(tables):
    """The receipts of all archives that the runs of some tables need, in the order of the tables."""
    rows = [row for table in tables for row in rows_of(table, config)]
    runs = [
        (run, row.split) for row in rows for run in chain(*runs_of_row(row, config), filter(None, [row.submission]))
    ]
    found = [receipt for run, split in dict.fromkeys(runs) for receipt in downloads_of(run, split)]
    return list(dict.fromkeys(found))


def downloads_of(run, split):
    """The receipts of the archives that a run needs, which is scored on a split."""
    experiment = load_experiment(settings(run))
    data = experiment.data
    unpacked, of_teacher = [], []
    if run in RELEASED:
        parts = descriptions(data.dataset, split)
        files = [f"<resources>/archives/{checkpoint_of(SimpleNamespace(run=run))}"]
    else:
        parts = descriptions(data.dataset, data.split) + descriptions(data.dataset, split)
        files = [pretrained_of(SimpleNamespace(run=run))]
        if teacher := teacher_of(run, config):
            of_teacher = downloads_of(teacher, data.split)
        entry = Path(data.saliency or "").parts[-2:]
        if experiment.taught_by is None and len(entry) == 2 and entry[0] in config["saliency"]:
            maps = SimpleNamespace(saliency=entry[0], source=entry[1])
            unpacked += manifests(maps_from(maps))
            files.append(model_of(maps))
            parts += descriptions(f"<resources>/datasets/{config['saliency'][entry[0]]['dataset']}", data.split)
    for description in parts:
        part = SimpleNamespace(dataset=Path(description).parent.name, part=Path(description).stem)
        if part.dataset in config["datasets"]:
            unpacked += archives_of(part)
    archives = [ARCHIVES[Path(manifest).stem]["file"] for manifest in unpacked]
    archives += [Path(file).name for file in files if file and Path(file).name in FILES]
    return [f"<resources>/archives/{file}.json" for file in archives] + of_teacher
