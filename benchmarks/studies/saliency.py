"""Agreement of the saliency maps made without training with masks and with U2-Net's maps.

    python -m benchmarks.studies.saliency --voc DATASET --samples FOLDER --shapes DATASET --sheet PNG

DATASET is a folder written by `getam prepare`; pixels of every class are salient, unknown pixels are left out. FOLDER
holds images/ and u2netp_pred/, whose maps are thresholded at one half. Reported are the measures of the saliency
literature: the mean absolute error, and the maximal F-measure (beta^2 = 0.3) over 256 thresholds, with precision and
recall averaged over the images; and the IoU over all pixels, at the single best threshold and at each map's Otsu
threshold, as training would use it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.measure import print_table, write_results
from getam.constants import UNKNOWN
from getam.data.dataset import open_dataset
from getam.data.images import read_grey, read_image, read_mask
from getam.data.saliency.background import background_saliency, border_saliency
from getam.data.saliency.maps import OTSU, binarise, find_maps
from getam.data.visualisation import draw_sheet
from getam.utils.hardware import device_name

BETA_SQUARED = 0.3
Truth = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]  # image, salient bool (H, W), known bool (H, W)


def everything(image_rgb: np.ndarray) -> np.ndarray:
    return np.ones(image_rgb.shape[:2], np.float32)


def centre(image_rgb: np.ndarray) -> np.ndarray:
    """A Gaussian whose sigma is a third of each side."""
    rows, columns = (np.linspace(-1, 1, length) for length in image_rgb.shape[:2])
    return np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * (2 / 3) ** 2)).astype(np.float32)


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "background (robust background detection)": background_saliency,
    "border (colour and texture unlike the border's)": border_saliency,
    "a Gaussian in the centre": centre,
    "everything is salient": everything,
}


def of_masks(folder: Path, split: str, limit: int) -> Truth:
    chosen = open_dataset(folder).split(split)
    for name in chosen.ids[:limit]:
        image = read_image(chosen.image(name))
        mask = read_mask(chosen.mask(name), image.shape[:2])
        yield image, (mask > 0) & (mask != UNKNOWN), mask != UNKNOWN


def of_samples(folder: Path, limit: int) -> Truth:
    images = sorted((folder / "images").iterdir())[:limit]
    maps = find_maps(folder / "u2netp_pred", [path.stem for path in images])
    for path in images:
        image = read_image(path)
        reference = read_grey(maps[path.stem], image.shape[:2])
        yield image, reference > 127, np.ones(reference.shape, bool)


def score(method: Callable[[np.ndarray], np.ndarray], truth: Truth) -> dict[str, str]:
    """The columns of one row."""
    errors, precisions, recalls, overlap, spent = [], [], [], np.zeros(2), []
    intersection, union = np.zeros(256), np.zeros(256)  # at each threshold, from the highest down
    for image, salient, known in truth:
        start = time.perf_counter()
        whole = method(image)
        spent.append(time.perf_counter() - start)
        saliency, salient = whole[known], salient[known]
        errors.append(np.abs(saliency - salient).mean())
        grey = np.rint(255 * saliency).astype(np.uint8)
        hits, all_pixels = (np.bincount(part, minlength=256)[::-1].cumsum() for part in (grey[salient], grey))
        precisions.append(hits / np.maximum(all_pixels, 1))
        recalls.append(hits / max(hits[-1], 1))
        intersection += hits
        union += all_pixels + hits[-1] - hits
        # Otsu's threshold of a map of one value would call nothing salient.
        cut = (whole if method is everything else binarise(np.rint(255 * whole).astype(np.uint8), OTSU))[known] > 0
        overlap += (cut & salient).sum(), (cut | salient).sum()
    precision, recall = np.mean(precisions, 0), np.mean(recalls, 0)
    f_measure = (1 + BETA_SQUARED) * precision * recall / np.maximum(BETA_SQUARED * precision + recall, 1e-9)
    return {
        "mean absolute error": f"{np.mean(errors):.3f}",
        "largest F": f"{f_measure.max():.3f}",
        "IoU at the best threshold": f"{(intersection / np.maximum(union, 1)).max():.3f}",
        "IoU at Otsu's threshold": f"{overlap[0] / overlap[1]:.3f}",
        "images": str(len(errors)),
        "seconds per image": f"{np.median(spent):.3f}",
    }


def sheet_rows(truth: Truth, number: int) -> list:
    """Rows of `draw_sheet` for `number` evenly spaced images."""
    pictures, rows = list(truth), []
    for i in np.linspace(0, len(pictures) - 1, number).astype(int):
        image, salient, _ = pictures[i]
        maps = [np.rint(255 * method(image)).astype(np.uint8) for method in (background_saliency, border_saliency)]
        cuts = [binarise(saliency, OTSU) for saliency in maps]
        grey = [maps[0], cuts[0], maps[1], cuts[1], 255 * salient]
        rows.append(("", [image, *(np.repeat(values.astype(np.uint8)[..., None], 3, -1) for values in grey)]))
    return rows


COLUMNS = ["image", "background", "at Otsu's", "border", "at Otsu's", "truth"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--voc", type=Path)
    parser.add_argument("--shapes", type=Path)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--split", default="val", help="of the data sets (%(default)s)")
    parser.add_argument("--limit", type=int, default=10**6, help="at most so many images of each")
    parser.add_argument("--sheet", type=Path, help="PNG to write")
    options = parser.parse_args()
    if not (options.voc or options.shapes or options.samples):
        parser.error("one of --voc, --samples and --shapes is needed")
    truths = {}
    if options.voc:
        truths["VOC masks"] = lambda: of_masks(options.voc, options.split, options.limit)
    if options.samples:
        truths["U2-Net(p)'s maps"] = lambda: of_samples(options.samples, options.limit)
    if options.shapes:
        truths["masks of shapes"] = lambda: of_masks(options.shapes, options.split, options.limit)
    rows = [
        {"against": against, "method": name, **score(method, truth()), "device": device_name("cpu")}
        for against, truth in truths.items()
        for name, method in METHODS.items()
    ]
    print_table(rows)
    print(f"written to {write_results('saliency', device_name('cpu'), rows)}")
    if options.sheet:
        pictures = [row for truth in truths.values() for row in sheet_rows(truth(), number=6)]
        draw_sheet(options.sheet, COLUMNS, pictures, height=100)


if __name__ == "__main__":
    main()
