"""Saliency without training, by contrast to the image's border.

`background_saliency` is Saliency Optimization from Robust Background Detection (Zhu, Liang, Wei, Sun; CVPR 2014).
`border_saliency` compares pixels and the texture around them, for images too small for superpixels.
"""

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from skimage.color import rgb2lab
from skimage.segmentation import slic

_LONG_SIDE = 400  # pixels; larger images are shrunk first
_PIXELS_PER_SUPERPIXEL = 450
_COMPACTNESS = 20.0  # of SLIC, Lab units; the paper gives no value, and scikit-image's 10 measures worse on VOC
_SIGMA_CLR = 10.0  # Lab units, section 3
_SIGMA_BNDCON = 1.0  # section 4
_SIGMA_SPA = 0.25  # of the image's sides, section 4
_MU = 0.1  # section 5
# Fractions of the shorter side: sigma of colours, of textures and of the result; width of the strip along a side.
_COLOUR, _TEXTURE, _RESULT, _STRIP = 0.01, 0.04, 0.03, 1 / 12


def background_saliency(image_rgb: np.ndarray) -> np.ndarray:
    """float32 (H, W) in 0..1 of uint8 (H, W, 3): the optimum of the paper's section 5, on superpixels.

    0 everywhere in an image without contrast.
    """
    image = _shrunk(image_rgb)
    count = max(2, image.shape[0] * image.shape[1] // _PIXELS_PER_SUPERPIXEL)
    segments = slic(image, count, compactness=_COMPACTNESS, start_label=0)
    values = segment_saliency(segments, rgb2lab(image))
    return _resized(values[segments], image_rgb.shape[:2])


def segment_saliency(segments: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """The saliency of each superpixel, float64 (N,) in 0..1.

    Args:
        segments: index 0..N-1 of each pixel's superpixel, (H, W).
        lab: the image in CIE-Lab, (H, W, 3).
    """
    count = int(segments.max()) + 1
    areas = np.bincount(segments.ravel(), minlength=count)
    colours = _means(segments, lab, areas)
    rows, columns = np.mgrid[: segments.shape[0], : segments.shape[1]]
    places = _means(segments, np.stack([rows / len(rows), columns / columns.shape[1]], -1), areas)
    at_border = np.zeros(count, bool)
    for side in (segments[0], segments[-1], segments[:, 0], segments[:, -1]):
        at_border[side] = True
    pairs = adjacent_pairs(segments)
    d_app = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    background = 1 - np.exp(-(boundary_connectivity(pairs, d_app, at_border) ** 2) / (2 * _SIGMA_BNDCON**2))
    d_spa = np.linalg.norm(places[:, None] - places[None], axis=-1)
    contrast = (d_app * np.exp(-(d_spa**2) / (2 * _SIGMA_SPA**2))) @ background  # wCtr, section 4
    # In 0..1, like the background weights. Not in the paper: values below the mean become 0, which lowers the error on
    # VOC and leaves the masks at Otsu's threshold as they are.
    foreground = _stretched(contrast)
    foreground[foreground < foreground.mean()] = 0
    return _stretched(optimise(pairs, d_app, background, foreground))


def adjacent_pairs(segments: np.ndarray) -> np.ndarray:
    """int (M, 2), sorted: pairs of superpixels that touch at an edge or a corner of a pixel, smaller index first."""
    touching = [
        (segments[:, :-1], segments[:, 1:]),
        (segments[:-1], segments[1:]),
        (segments[:-1, :-1], segments[1:, 1:]),
        (segments[1:, :-1], segments[:-1, 1:]),
    ]
    pairs = np.concatenate([np.stack([a.ravel(), b.ravel()], -1) for a, b in touching])
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)


def boundary_connectivity(pairs: np.ndarray, d_app: np.ndarray, at_border: np.ndarray) -> np.ndarray:
    """BndCon of each superpixel, (N,): Len_bnd / sqrt(Area), section 3.

    The geodesic distance is measured on the graph of adjacent superpixels, with all superpixels at the border joined.
    """
    border = np.flatnonzero(at_border)
    joined = np.stack(np.triu_indices(len(border), 1), -1)
    edges = np.unique(np.concatenate([pairs, border[joined]]), axis=0)
    # A sparse graph takes a weight of 0 for a missing edge.
    weights = np.maximum(d_app[edges[:, 0], edges[:, 1]], 1e-9)
    graph = coo_array((weights, (edges[:, 0], edges[:, 1])), shape=d_app.shape).tocsr()
    similar = np.exp(-(dijkstra(graph, directed=False) ** 2) / (2 * _SIGMA_CLR**2))
    return similar[:, at_border].sum(1) / np.sqrt(similar.sum(1))


def optimise(pairs: np.ndarray, d_app: np.ndarray, background: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    """The minimum over s of sum w_bg s^2 + sum w_fg (s - 1)^2 + sum w_ij (s_i - s_j)^2, section 5.

    Args:
        pairs: (M, 2), the pairs i, j of the last sum.
        d_app: colour distance of each pair of superpixels, (N, N).
        background, foreground: w_bg and w_fg, (N,).
    """
    first, second = pairs.T
    smooth = np.zeros_like(d_app)
    smooth[first, second] = smooth[second, first] = np.exp(-(d_app[first, second] ** 2) / (2 * _SIGMA_CLR**2)) + _MU
    system = np.diag(background + foreground + smooth.sum(1)) - smooth
    return np.linalg.solve(system, foreground)


def border_saliency(image_rgb: np.ndarray) -> np.ndarray:
    """float32 (H, W) in 0..1 of uint8 (H, W, 3): how far a pixel's colour and texture are from those of the border.

    A pixel's features are its smoothed CIE-Lab values and their local standard deviations. The result is the sum of the
    Mahalanobis distances to the strips along the four sides, without the largest one, so that an object that covers one
    side is still compared with the other three.
    """
    image = _shrunk(image_rgb)
    lab, side = rgb2lab(image), min(image.shape[:2])
    features = np.concatenate([_smoothed(lab, _COLOUR * side), _deviation(lab, _TEXTURE * side)], -1)
    width = max(1, round(_STRIP * side))
    strips = (features[:width], features[-width:], features[:, :width], features[:, -width:])
    distances = np.stack([_mahalanobis(features, strip.reshape(-1, features.shape[-1])) for strip in strips])
    combined = _smoothed((distances.sum(0) - distances.max(0))[..., None], _RESULT * side)[..., 0]
    return _resized(_stretched(combined), image_rgb.shape[:2])


def _smoothed(values: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(values, (sigma, sigma, 0))


def _deviation(values: np.ndarray, sigma: float) -> np.ndarray:
    return np.sqrt(np.maximum(_smoothed(values**2, sigma) - _smoothed(values, sigma) ** 2, 0))


def _mahalanobis(values: np.ndarray, sample: np.ndarray) -> np.ndarray:
    mean = sample.mean(0)
    # The covariance of a strip of one colour is singular: 3 Lab units of noise are added.
    covariance = (sample - mean).T @ (sample - mean) / len(sample) + 9 * np.eye(len(mean))
    difference = values - mean
    return np.sqrt(np.einsum("hwi,ij,hwj->hw", difference, np.linalg.inv(covariance), difference))


def _shrunk(image_rgb: np.ndarray) -> np.ndarray:
    height, width = image_rgb.shape[:2]
    scale = min(1, _LONG_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image_rgb).resize(size, Image.Resampling.BOX))


def _resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    image = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(image), 0, 1)


def _means(segments: np.ndarray, values: np.ndarray, areas: np.ndarray) -> np.ndarray:
    flat, channels = segments.ravel(), np.moveaxis(values, -1, 0)
    return np.stack([np.bincount(flat, channel.ravel(), len(areas)) for channel in channels], -1) / areas[:, None]


def _stretched(values: np.ndarray) -> np.ndarray:
    lowest, highest = values.min(), values.max()
    return np.zeros_like(values) if highest - lowest < 1e-6 else (values - lowest) / (highest - lowest)
