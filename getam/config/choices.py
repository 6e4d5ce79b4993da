"""The values that some settings may take, and their defaults; importable without torch, which takes seconds."""

# Activation methods (getam/method/activation.py), and ways to fuse maps over blocks and heads.
METHODS = ("getam", "attention_gradient", "grad_cam", "cam", "rollout", "transformer_attribution")
FUSIONS = ("sum", "product", "matmul")
HEADS = ("released", "paper")

# PAMR (getam/method/pamr.py).
ITERATIONS = 10
DILATIONS = (1, 2, 4, 8, 12, 24)
