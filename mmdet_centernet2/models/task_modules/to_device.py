"""From arrays of the host to tensors of a device."""

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to a device; the host does not wait for it."""
    return torch.from_numpy(array).to(device, non_blocking=True)
