"""The same random weights in every run."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how near the models come to the original's numbers."""
    from tests.test_models.test_golden import DEVIATIONS

    for name, found in DEVIATIONS.items():
        worst = ', '.join(f'{what} {error:.1e}' for what, error in found.items())
        terminalreporter.write_line(f'deviation of {name}: {worst}')
