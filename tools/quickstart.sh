#!/usr/bin/env bash
# Set everything up, then train and evaluate a CenterNet2 on real photographs.
# The options: bash tools/quickstart.sh --help
source "$(dirname "${BASH_SOURCE[0]}")/env/start.sh"
