#!/usr/bin/env bash
# Set everything up, then run the whole test suite.
# The options: bash tools/run_tests.sh --help
source "$(dirname "${BASH_SOURCE[0]}")/env/start.sh"
