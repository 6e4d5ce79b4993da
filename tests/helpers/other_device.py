"""Tensors that refuse to become arrays, as those of a GPU do."""

import torch


class OnAnotherDevice(torch.Tensor):
    """A CPU tensor that `numpy` and `np.asarray` refuse until `cpu()` was called."""

    def __array__(self, *arguments, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")

    def numpy(self, *arguments, **options):
        """Refuses."""
        return self.__array__()

    def cpu(self):
        """The plain tensor."""
        return self.as_subclass(torch.Tensor)
