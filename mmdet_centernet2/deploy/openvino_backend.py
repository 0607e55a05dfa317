"""mmdeploy's OpenVINO backend on an OpenVINO of today.

mmdeploy 1.3.1 converts with the command ``mo`` and runs with
``openvino.inference_engine``; OpenVINO dropped both (the latter in 2024.0).
Its manager is left in place with two methods replaced, and not at all where
the old interface still exists.
"""
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch
from mmdeploy.backend.base import BaseWrapper
from mmdeploy.backend.openvino import OpenVINOManager
from mmdeploy.utils import get_backend_config
from torch import Tensor

from .runtime.backends import OpenVinoSession


def install() -> None:
    """Replace what no longer works; calling it again changes nothing."""
    if find_spec('openvino') is None or has_old_interface():
        return
    OpenVINOManager.to_backend = classmethod(_to_backend)
    OpenVINOManager.build_wrapper = classmethod(_build_wrapper)


def has_old_interface() -> bool:
    """Whether this OpenVINO has the interface that mmdeploy calls."""
    return find_spec('openvino.inference_engine') is not None


class OpenVINOWrapper(BaseWrapper):
    """Runs a converted model for mmdeploy, in float32.

    Args:
        model_file (str): The ``.xml`` file; its ``.bin`` lies beside it.
        output_names (Sequence[str], optional): In this order; those of the
            model unless given.
        device (str): Such as ``cpu``.
    """

    def __init__(self,
                 model_file: str,
                 output_names: Optional[Sequence[str]] = None,
                 device: str = 'cpu') -> None:
        self.session = OpenVinoSession(model_file, device)
        super().__init__(output_names or self.session.output_names)

    def forward(self, inputs: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Run it.

        Args:
            inputs (dict[str, Tensor]): By name.

        Returns:
            dict[str, Tensor]: On the CPU, by name.
        """
        outputs = self.session({
            name: tensor.detach().cpu().contiguous().numpy()
            for name, tensor in inputs.items()
        })
        return {name: torch.from_numpy(array)
                for name, array in outputs.items()}


def convert(onnx_file: str, folder: str,
            input_shapes: Optional[Dict[str, Sequence[int]]] = None) -> str:
    """Turn an ONNX file into OpenVINO's format, weights in float32.

    What the file says about itself goes with it.

    Args:
        onnx_file (str): The file.
        folder (str): Where the ``.xml`` and ``.bin`` files go, of the same
            name.
        input_shapes (dict, optional): Name to fixed shape; the file's own
            shapes unless given.

    Returns:
        str: The ``.xml`` file.
    """
    import openvino
    model = openvino.convert_model(onnx_file)
    name_inputs(model, onnx_file)
    if input_shapes:
        model.reshape({
            name: list(shape) for name, shape in input_shapes.items()
        })
    target = Path(folder) / f'{Path(onnx_file).stem}.xml'
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, str(target), compress_to_fp16=False)
    return str(target)


def name_inputs(model: Any, onnx_file: str) -> None:
    """Give inputs the names of the ONNX file alone.

    An input that is converted to its own type first would be known under the
    name of the result, too, and be called by whichever comes first.
    """
    import onnx
    graph = onnx.load(onnx_file, load_external_data=False).graph
    wanted = {value.name for value in graph.input}
    for port in model.inputs:
        names = port.get_names() & wanted
        if names:
            port.get_tensor().set_names(names)


def _to_backend(cls: type, ir_files: Sequence[str], work_dir: str,
                deploy_cfg: Any, *args: Any, **kwargs: Any) -> List[str]:
    """Convert all files; see mmdeploy's ``BaseBackendManager``."""
    shapes = fixed_shapes(deploy_cfg)
    return [convert(file, work_dir, shapes) for file in ir_files]


def fixed_shapes(deploy_cfg: Any) -> Dict[str, Sequence[int]]:
    """Shapes that the deploy config asks for, as mmdeploy spells them.

    Raises:
        ValueError: If it has options of the command that is gone.
    """
    config = get_backend_config(deploy_cfg)
    if config.get('mo_options'):
        raise ValueError(
            'backend_config.mo_options are options of the command `mo`, which '
            'OpenVINO no longer has: remove them')
    inputs = config.get('model_inputs') or [{}]
    return dict(inputs[0].get('opt_shapes', {}))


def _build_wrapper(cls: type,
                   backend_files: Sequence[str],
                   device: str = 'cpu',
                   input_names: Optional[Sequence[str]] = None,
                   output_names: Optional[Sequence[str]] = None,
                   deploy_cfg: Optional[Any] = None,
                   **kwargs: Any) -> OpenVINOWrapper:
    """Load a model; see mmdeploy's ``BaseBackendManager``."""
    return OpenVINOWrapper(backend_files[0], output_names, device)
