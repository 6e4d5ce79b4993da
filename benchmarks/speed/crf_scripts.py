"""Programs in the patterns in which pydensecrf is called, written for either implementation of its interface.

Each takes the modules `densecrf` and `utils` and returns marginals (labels, ...) or what else the program computes.
"""

from types import ModuleType

import numpy as np


def segmentation_postprocessing(densecrf: ModuleType, utils: ModuleType, image, probabilities) -> np.ndarray:
    """The class `DenseCRF` of `dcrf.py`, which weakly supervised repositories share: image (H, W, 3), (L, H, W)."""
    labels, height, width = probabilities.shape
    unary = np.ascontiguousarray(utils.unary_from_softmax(probabilities))
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.ascontiguousarray(image), compat=4)
    return np.array(crf.inference(10)).reshape((labels, height, width))


def irn_inference(densecrf: ModuleType, utils: ModuleType, image, probabilities, scale_factor=1) -> np.ndarray:
    """The pattern of `crf_inference` in IRN: image (H, W, 3), probabilities (L, H, W)."""
    labels = len(probabilities)
    height, width = image.shape[:2]
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(utils.unary_from_softmax(probabilities)))
    crf.addPairwiseGaussian(sxy=3 / scale_factor, compat=3)
    crf.addPairwiseBilateral(sxy=80 / scale_factor, srgb=13, rgbim=np.copy(image), compat=10)
    return np.array(crf.inference(10)).reshape((labels, height, width))


def irn_inference_label(densecrf: ModuleType, utils: ModuleType, image, labelling, labels=21) -> np.ndarray:
    """The pattern of `crf_inference_label` in IRN: image (H, W, 3), labels of pixels (H, W) -> (H, W)."""
    height, width = image.shape[:2]
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(utils.unary_from_labels(labelling, labels, gt_prob=0.7, zero_unsure=False))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=50, srgb=5, rgbim=np.ascontiguousarray(np.copy(image)), compat=10)
    return np.argmax(crf.inference(10), axis=0).reshape((height, width))


def annotated_image(densecrf: ModuleType, utils: ModuleType, image, annotation) -> tuple[np.ndarray, list[float]]:
    """An RGB image with scribbles, 0 unknown: the labels step by step, and the divergence after every step."""
    labels = int(annotation.max())
    height, width = image.shape[:2]
    crf = densecrf.DenseCRF(width * height, labels)
    crf.setUnaryEnergy(utils.unary_from_labels(annotation, labels, gt_prob=0.7, zero_unsure=True))
    gaussian = utils.create_pairwise_gaussian(sdims=(3, 3), shape=(height, width))
    crf.addPairwiseEnergy(gaussian, compat=3, kernel=densecrf.DIAG_KERNEL, normalization=densecrf.NORMALIZE_SYMMETRIC)
    bilateral = utils.create_pairwise_bilateral(sdims=(40, 40), schan=(13, 13, 13), img=image, chdim=2)
    crf.addPairwiseEnergy(bilateral, compat=10, kernel=densecrf.DIAG_KERNEL, normalization=densecrf.NORMALIZE_SYMMETRIC)
    q, first, second = crf.startInference()
    divergences = []
    for _ in range(5):
        divergences.append(crf.klDivergence(q) / (width * height))
        crf.stepInference(q, first, second)
    return np.array(q), divergences


def two_dimensions(densecrf: ModuleType, utils: ModuleType, probabilities) -> np.ndarray:
    """Two classes on a grid without an image: positions alone, with different deviations along x and y."""
    labels, height, width = probabilities.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(utils.unary_from_softmax(probabilities))
    features = utils.create_pairwise_gaussian(sdims=(10, 5), shape=(height, width))
    crf.addPairwiseEnergy(features, compat=3)
    return np.array(crf.inference(10))


def other_channels(densecrf: ModuleType, utils: ModuleType, channels, probabilities) -> np.ndarray:
    """An image whose values are no colours, (H, W) or (C, H, W), with the positions beside them."""
    labels, height, width = probabilities.shape
    crf = densecrf.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(utils.unary_from_softmax(probabilities, scale=0.9, clip=1e-4))
    chdim = -1 if channels.ndim == 2 else 0
    schan = (0.1,) * (1 if channels.ndim == 2 else len(channels))
    features = utils.create_pairwise_bilateral(sdims=(20, 20), schan=schan, img=channels, chdim=chdim)
    crf.addPairwiseEnergy(features, compat=10)
    return np.array(crf.inference(10))


def volume(densecrf: ModuleType, utils: ModuleType, values, probabilities) -> np.ndarray:
    """A three-dimensional scan (D, H, W) with probabilities (L, D, H, W)."""
    labels, shape = len(probabilities), probabilities.shape[1:]
    crf = densecrf.DenseCRF(int(np.prod(shape)), labels)
    crf.setUnaryEnergy(utils.unary_from_softmax(probabilities))
    crf.addPairwiseEnergy(utils.create_pairwise_gaussian(sdims=(2, 2, 2), shape=shape), compat=3)
    features = utils.create_pairwise_bilateral(sdims=(5, 5, 5), schan=(0.2,), img=values)
    crf.addPairwiseEnergy(features, compat=5, normalization=densecrf.NORMALIZE_AFTER)
    return np.array(crf.inference(6))
