# Helpers of rules/report.smk.
def captions():
    """name -> the caption's file, as `digest_of` takes it."""
    names = ("classes", "confusion", "history", "panels", "run", "table", "workflow")
    return {name: f"../report/{name}.rst" for name in names}


def reported():
    """The runs behind the tables of the report, each with the split that it is scored on."""
    rows = [row for table in config["report"] for row in rows_of(table, config) if row.experiment]
    return list(dict.fromkeys((run, row.split) for row in rows for runs in runs_of_row(row, config) for run in runs))


@cache
def shown_of(run):
    """The labels of a run that the report shows: masks, and pseudo labels of networks that have them and were trained here."""
    pseudo_labels = run not in RELEASED and load_experiment(settings(run)).has_maps
    return ["masks", "pseudo_labels"] if pseudo_labels else ["masks"]


def figures(_):
    """Every picture of the report."""
    return [
        f"<results>/figures/{run}/{name}"
        for run, split in reported()
        for name in (
            *([] if run in RELEASED else ["history.svg"]),
            *([f"panels_{split}.png"] if "pseudo_labels" in shown_of(run) else []),
            f"classes_{split}.svg",
            f"confusion_{split}.svg",
            "run.html",
        )
    ]


def labels_of(figure):
    """The name of a picture in the menu of the report."""
    return lambda wildcards: {"run": wildcards.run, "figure": figure}
