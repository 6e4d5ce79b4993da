"""Whether a step was finite, which the host reads one step later, so that it does not wait for the device."""

from typing import NamedTuple

from torch import Tensor

from getam.training.checkpoints import Checkpoints


class NotFinite(ValueError):  # noqa: N818
    """A loss or the norm of its gradient became NaN or infinite."""


class Unsettled(NamedTuple):
    """A step of which the host does not know yet whether it was finite.

    flags: (2,) on the device: a loss or the gradient of any replica is not finite; any replica was asked to stop.
    """

    step: int
    flags: Tensor
    losses: dict[str, Tensor]
    norm: Tensor


class DeferredFlags:
    """The flags of the last step. They are read before anything is kept of that step.

    Args:
        checkpoints: those of a step that was not finite, and of later ones, are removed.
        is_main: whether this process writes files.

    Attributes:
        stop_agreed: whether any replica was asked to stop; all replicas know it after the same step.
    """

    def __init__(self, checkpoints: Checkpoints, is_main: bool):
        self._checkpoints, self._is_main = checkpoints, is_main
        self._last: Unsettled | None = None
        self.stop_agreed = False

    def defer(self, step: Unsettled) -> None:
        """Keeps the flags of a step for `settle`."""
        self._last = step

    def settle(self) -> None:
        """Reads the flags of the last step.

        Raises:
            NotFinite: it was not finite.
        """
        last, self._last = self._last, None
        if last is None:
            return
        broken, self.stop_agreed = last.flags.tolist()
        if broken:
            self._give_up(last)

    def _give_up(self, broken: Unsettled) -> None:
        """Keeps the last checkpoint that a good step has followed. One that was saved just now may have diverged."""
        kept = "no checkpoint was saved before it"
        if self._is_main:
            self._checkpoints.remove_after(broken.step - 1)
            if (state := self._checkpoints.latest()[0]) is not None:
                kept = f"the checkpoint after {state['step']} steps is kept in {self._checkpoints.folder}"
        losses = ", ".join(f"{name} {loss.item():.4g}" for name, loss in broken.losses.items())
        raise NotFinite(
            f"the loss of step {broken.step} is not finite ({losses}), or its gradient is not "
            f"(norm {broken.norm.item():.4g}); {kept}. "
            "A lower training.rate, some training.warmup or precision float32 may help"
        )
