"""Objects that are hard to train on, in an image of 100 x 150 pixels."""

#: 25 objects: nested, equal, tiny, cut by the border, on cell borders.
CROWD = tuple(
    [(40.0 - i, 30.0 - i, 70.0 + i, 60.0 + i) for i in range(0, 25, 5)]
    + [(16.0, 16.0, 48.0, 48.0)] * 2
    + [
        (-6.0, 10.0, 9.0, 30.0),
        (140.0, 90.0, 158.0, 108.0),
        (0.0, 0.0, 150.0, 100.0),
        (60.0, -4.0, 64.0, 2.0),
    ]
    + [(8.0 * i, 80.5, 8.0 * i + 0.5, 81.0) for i in range(1, 8)]
    + [(100.0 + 4 * i, 20.0 + 3 * i, 112.0 + 4 * i, 26.0 + 3 * i) for i in range(7)]
)
