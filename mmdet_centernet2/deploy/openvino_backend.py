"""mmdeploy's OpenVINO backend on an OpenVINO of today.

mmdeploy 1.3.1 converts with the command ``mo`` and runs with
``openvino.inference_engine``; OpenVINO dropped both by 2024.0.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from mmdeploy.backend.base import BaseWrapper
from mmdeploy.utils import get_backend_config
from torch import Tensor

from .runtime.backends import OpenVinoSession


class OpenVINOWrapper(BaseWrapper):
    """Runs a converted model (``.xml``) for mmdeploy, in float32."""

    def __init__(
        self, model_file: str, output_names: Sequence[str] | None = None, device: str = 'cpu'
    ) -> None:
        self.session = OpenVinoSession(model_file, device)
        super().__init__(output_names or self.session.output_names)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run it; tensors by name."""
        outputs = self.session(
            {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in inputs.items()}
        )
        return {name: torch.from_numpy(out) for name, out in outputs.items()}


def convert(
    onnx_file: str, folder: str, input_shapes: dict[str, Sequence[int]] | None = None
) -> str:
    """Turn an ONNX file into OpenVINO's format, with float32 weights.

    Args:
        onnx_file: The file; its metadata go along.
        folder: Where the ``.xml`` and ``.bin`` files go, of the same name.
        input_shapes: Fixed shapes by name; the file's own by default.

    Returns:
        The ``.xml`` file.
    """
    import openvino

    model = openvino.convert_model(onnx_file)
    # An input that is first cast to its own type would be known under the
    # name of the result, too, and be called by whichever comes first.
    graph = onnx.load(onnx_file, load_external_data=False).graph
    for port in model.inputs:
        names = port.get_names() & {value.name for value in graph.input}
        if names:
            port.get_tensor().set_names(names)
    if input_shapes:
        model.reshape({k: list(shape) for k, shape in input_shapes.items()})
    target = Path(folder) / f'{Path(onnx_file).stem}.xml'
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, str(target), compress_to_fp16=False)
    return str(target)


def fixed_shapes(deploy_cfg: Any) -> dict[str, Sequence[int]]:
    """Shapes by input that the deploy config asks for (``opt_shapes``)."""
    config = get_backend_config(deploy_cfg)
    if config.get('mo_options'):
        raise ValueError(
            'backend_config.mo_options are options of the command `mo`, which '
            'OpenVINO no longer has: remove them'
        )
    inputs = config.get('model_inputs') or [{}]
    return dict(inputs[0].get('opt_shapes', {}))


def to_backend(
    cls: type, ir_files: Sequence[str], work_dir: str, deploy_cfg: Any, *args: Any, **kwargs: Any
) -> list[str]:
    """See mmdeploy's ``BaseBackendManager``."""
    shapes = fixed_shapes(deploy_cfg)
    return [convert(file, work_dir, shapes) for file in ir_files]


def build_wrapper(
    cls: type,
    backend_files: Sequence[str],
    device: str = 'cpu',
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    deploy_cfg: Any = None,
    **kwargs: Any,
) -> OpenVINOWrapper:
    """See mmdeploy's ``BaseBackendManager``."""
    return OpenVINOWrapper(backend_files[0], output_names, device)
