# The check of this machine before anything runs on it (getam/utils/preflight.py).
from getam.utils.preflight import cuda_of_torch, disk_problems, gpu_problem, shared_memory_problem

UNKNOWN_SIZE = 4 * 10**8  # bytes; archives without a published size are weights and saliency maps
PER_TRAINING = 10**9  # bytes: weights, and two checkpoints while it runs
PER_IMAGE = 2 * 10**6  # bytes of probabilities
# Those of your own photographs are not known before they are prepared.
IMAGES = {"voc": 1456, "coco": 40137, "shapes": 0, "folder": 0}  # of the splits that are scored
TRAINING_IMAGES = {
    "voc": 10582,
    "coco": 82081,
    "shapes": 0,
    "folder": 0,
}  # of those that a teacher predicts for its pupils


def preflight():
    """Raises an error that lists the obstacles of the jobs that will run here; none on a cluster's login node."""
    if not config["preflight"] or not workflow.local_exec:
        return
    jobs = list(workflow.dag.needrun_jobs())
    problems = disk_problems(written_by(jobs))
    gpu = [job for job in jobs if job.resources.get("gpu", 0)]
    if gpu and DEVICE.startswith("cuda"):
        # Rules that run in another image have its torch.
        own = "apptainer" not in {str(method).lower() for method in workflow.deployment_settings.deployment_method}
        problems += [gpu_problem(cuda_of_torch() if own else "13.0", len(gpu)), shared_memory_problem()]
    if problems := [problem for problem in problems if problem]:
        raise WorkflowError(
            "This machine cannot run what was asked for (--config preflight=false skips this check):",
            *problems,
        )


def written_by(jobs):
    """About how many bytes the jobs write below each folder."""
    needed = {}

    def add(folder, size):
        needed[Path(folder)] = needed.get(Path(folder), 0) + max(0, size)

    for job in jobs:
        name = job.rule.name
        if name == "fetch":
            archive = ARCHIVES[FILES[job.wildcards.file]]
            add(
                Path(job.output[0]).parent,
                archive.get("size", UNKNOWN_SIZE) - there(job.output[0].removesuffix(".json")),
            )
        elif name == "unpack":
            archive = ARCHIVES[job.wildcards.archive]
            add(config["unpack"][job.wildcards.archive]["into"], archive.get("size", UNKNOWN_SIZE))
        elif name in ("train", "train_first_phase"):
            add(RESULTS, PER_TRAINING)
        elif name == "predict":
            dataset = Path(settings(job.wildcards.run)["data"]["dataset"]).name
            kind = config["datasets"].get(dataset, {}).get("kind", "voc")
            images = TRAINING_IMAGES if job.wildcards.split.startswith("train") else IMAGES
            add(RESULTS, PER_IMAGE * images[kind] // config["shards"])
    return needed


def there(path):
    """Bytes of a file that was placed by hand."""
    return Path(path).stat().st_size if Path(path).is_file() else 0
