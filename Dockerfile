# mmdet_centernet2 with everything that it needs, set up by the same script as a clone.
#
#   docker build -t centernet2 .
#   docker run --rm -v "$PWD:/data" -w /data centernet2 predict photo.jpg CenterNet2_R50_1x
#
# With CUDA, from an image that has nvcc; the list names the GPUs that will run it:
#
#   docker build -t centernet2 --build-arg BASE=nvidia/cuda:13.0.1-devel-ubuntu24.04 \
#       --build-arg TORCH_CUDA_ARCH_LIST=9.0 .
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ gcc git python3 python3-dev python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/mmdet_centernet2
COPY . .
ARG TORCH_CUDA_ARCH_LIST=
ENV TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST}
# The compiled mmcv is in the environment; its cache is not needed any more.
RUN XDG_CACHE_HOME=/tmp/cache bash tools/quickstart.sh --setup-only && rm -rf /tmp/cache

ENV PATH=/opt/mmdet_centernet2/.venv/bin:${PATH}
ENTRYPOINT ["centernet2"]
CMD ["--help"]
