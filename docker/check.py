"""`make check`: all that computes is there, and maps of a small network come out of it."""

import torch

from getam import activation_maps, bilateral_filter, build_model, normalise_images, refine_maps

images_rgb = torch.rand(1, 3, 64, 64) * 255
network = build_model("vit_micro_hybrid", num_classes=3).eval()
maps = refine_maps(activation_maps(network, normalise_images(images_rgb), torch.ones(1, 3)), images_rgb)
filtered = bilateral_filter(images_rgb, maps, sigma_rgb=15, sigma_xy=50)
if filtered.shape != (1, 3, 64, 64) or not filtered.isfinite().all():
    raise SystemExit(f"maps of shape {tuple(filtered.shape)}, not all of them finite")
gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
print(f"torch {torch.__version__}, {', '.join(gpus) or 'no GPU'}: maps and the lattice are there")
