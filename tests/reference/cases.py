"""Generated cases for property tests; they print as plain boxes.

All coordinates are quarters of a pixel, which single precision holds exactly:
comparisons then fall out the same in the package and in the reference.
"""

from typing import NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from .layout import Box, Level

#: For all property tests: the same cases in every run.
SETTINGS = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

#: Ranges of half diagonals: overlapping, meeting in a point, with a gap.
RANGES = (
    ((0, 24), (20, 48), (32, 1e7)),
    ((0, 20), (20, 40), (40, 1e7)),
    ((8, 16), (24, 40), (48, 80)),
)


class Case(NamedTuple):
    """Objects of a batch and the levels they are to be found on."""

    levels: tuple[Level, ...]
    boxes: tuple[tuple[Box, ...], ...]
    labels: tuple[tuple[int, ...], ...]


@st.composite
def level_sets(draw) -> tuple[Level, ...]:
    """One to three levels of an image of at most 96 by 96 pixels."""
    first = draw(st.sampled_from([4, 8, 16]))
    height, width = draw(st.tuples(*[st.integers(1, 96)] * 2))
    ranges = draw(st.sampled_from(RANGES))
    strides = [first * 2**i for i in range(draw(st.integers(1, 3)))]
    return tuple(
        Level(s, -(-height // s), -(-width // s), *bounds) for s, bounds in zip(strides, ranges)
    )


def _quarters(low: float, high: float):
    return st.integers(int(low * 4), int(high * 4)).map(lambda v: v / 4)


@st.composite
def _box(draw, levels: tuple[Level, ...], before: list[Box]) -> Box:
    """A box of one of the kinds that have gone wrong elsewhere."""
    stride = levels[0].stride
    width = levels[0].width * stride
    height = levels[0].height * stride
    kinds = ['any', 'tiny', 'huge', 'border', 'cell border', 'outside', 'end']
    kind = draw(st.sampled_from(kinds + ['again', 'same centre'] * bool(before)))
    if kind == 'again':
        return draw(st.sampled_from(before))
    if kind == 'huge':
        return (0.0, 0.0, float(width), float(height))
    limit = 1 if kind == 'tiny' else max(width, height)
    half = draw(st.tuples(*[_quarters(0.25, limit / 2)] * 2))
    if kind == 'end':  # half diagonals of 20 and 40, ends of some ranges
        half = draw(st.sampled_from([(12.0, 16.0), (32.0, 24.0)]))
    if kind == 'same centre':
        x1, y1, x2, y2 = draw(st.sampled_from(before))
        centre = (x1 + x2) / 2, (y1 + y2) / 2
    elif kind == 'cell border':
        centre = (
            draw(st.integers(0, width // stride)) * stride,
            draw(st.integers(0, height // stride)) * stride,
        )
    else:
        margin = 8 if kind == 'outside' else 0
        centre = draw(
            st.tuples(_quarters(-margin, width + margin), _quarters(-margin, height + margin))
        )
    if kind == 'border':
        centre = draw(
            st.sampled_from(
                [
                    (half[0], centre[1]),
                    (centre[0], half[1]),
                    (width - half[0], centre[1]),
                    (centre[0], height - half[1]),
                ]
            )
        )
    return (centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])


@st.composite
def cases(draw, max_objects: int = 5, num_classes: int = 3) -> Case:
    """One to three images with no to ``max_objects`` objects each."""
    levels = draw(level_sets())
    images, labels = [], []
    for _ in range(draw(st.integers(1, 3))):
        boxes: list[Box] = []
        for _ in range(draw(st.integers(0, max_objects))):
            boxes.append(draw(_box(levels, boxes)))
        images.append(tuple(boxes))
        labels.append(tuple(draw(st.integers(0, num_classes - 1)) for _ in boxes))
    return Case(levels, tuple(images), tuple(labels))
