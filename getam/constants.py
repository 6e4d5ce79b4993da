"""Label values of a mask's pixels, the statistics that images are normalised with, and the first part of a data set."""

# ImageNet's mean and standard deviation of RGB values in 0..1; the released code uses them for every backbone.
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BACKGROUND, UNKNOWN = 0, 255  # the classes are 1..C
# The part of a prepared data set that is always there; dataset.json describes it (getam/data/dataset.py).
BASE = "dataset"
