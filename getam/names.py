"""Names and numbers that settings are checked against; importable without torch, which takes seconds."""

# Activation methods (getam/activation.py), and how maps are fused over blocks and heads.
METHODS = ("getam", "attention_gradient", "grad_cam", "cam", "rollout", "transformer_attribution")
FUSIONS = ("sum", "product", "matmul")
HEADS = ("released", "paper")

# PAMR (getam/refinement.py).
ITERATIONS = 10
DILATIONS = (1, 2, 4, 8, 12, 24)

# What `getam prepare` makes of each kind of data set; test, and VOC's train_aug, only where their archives are given.
SPLITS = {
    "voc": ("train", "val", "train_aug", "test"),
    "coco": ("train", "val", "train_without_objects", "val_without_objects"),
    "shapes": ("train", "val", "test"),
}

# Where the network runs (getam/replicas.py).
DEVICES = ("auto", "cpu", "cuda")
