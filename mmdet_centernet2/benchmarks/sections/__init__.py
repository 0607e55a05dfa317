"""The sections of the benchmark, by name, in the order they are run."""
from mmdet_centernet2.benchmarks.section import Section
from mmdet_centernet2.benchmarks.sections import (decode, evaluation,
                                                  fast, federated, gpu,
                                                  heatmap_loss, inference,
                                                  pipeline, targets, train,
                                                  train_options)

SECTIONS: dict[str, Section] = {
    module.SECTION.name: module.SECTION
    for module in (inference, fast, train, train_options, targets, heatmap_loss,
                   federated, decode, pipeline, evaluation, gpu)
}
