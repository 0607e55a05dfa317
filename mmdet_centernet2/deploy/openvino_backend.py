"""mmdeploy's OpenVINO backend on a current OpenVINO.

mmdeploy 1.3.1 converts with the command ``mo`` and runs with
``openvino.inference_engine``; OpenVINO 2024.0 removed both.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from mmdeploy.backend.base import BaseWrapper
from mmdeploy.backend.openvino import OpenVINOManager
from torch import Tensor

from mmdet_centernet2.runtime.backends import open_session, openvino_core


class OpenVINOWrapper(BaseWrapper):
    """Runs a converted model (``.xml``) for mmdeploy, in float32."""

    def __init__(self, model_file: str, device: str = 'cpu') -> None:
        self.session = open_session(model_file, 'openvino', device)
        super().__init__(self.session.output_names)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run it; tensors by name."""
        outputs = self.session({k: v.detach().cpu().numpy() for k, v in inputs.items()})
        return {name: torch.from_numpy(out) for name, out in outputs.items()}


class CurrentOpenVINOManager(OpenVINOManager):
    """Converts and runs by OpenVINO's Python API."""

    @classmethod
    def to_backend(
        cls, ir_files: Sequence[str], work_dir: str, *args: Any, **kwargs: Any
    ) -> list[str]:
        """Write ONNX files in OpenVINO's format, with float32 weights; give the ``.xml`` files."""
        import openvino

        written = []
        for file in ir_files:
            model = openvino_core().read_model(file)
            # An input that is first cast to its own type would be known under the
            # name of the result, too, and be called by whichever comes first.
            graph = onnx.load(file, load_external_data=False).graph
            for port in model.inputs:
                names = port.get_names() & {value.name for value in graph.input}
                if names:
                    port.get_tensor().set_names(names)
            Path(work_dir).mkdir(parents=True, exist_ok=True)
            written.append(str(Path(work_dir, f'{Path(file).stem}.xml')))
            openvino.save_model(model, written[-1], compress_to_fp16=False)
        return written

    @classmethod
    def build_wrapper(
        cls, backend_files: Sequence[str], device: str = 'cpu', *args: Any, **kwargs: Any
    ) -> OpenVINOWrapper:
        """What runs a converted model."""
        return OpenVINOWrapper(backend_files[0], device)
