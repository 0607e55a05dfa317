"""Objects that are hard to train on, in an image of 100 x 150 pixels."""

#: 25 objects: nested, equal, tiny, cut by the border, on cell borders.
CROWD = tuple(
    [(40. - i, 30. - i, 70. + i, 60. + i) for i in range(0, 25, 5)] +
    [(16., 16., 48., 48.)] * 2 + [(-6., 10., 9., 30.), (140., 90., 158., 108.),
                                  (0., 0., 150., 100.), (60., -4., 64., 2.)] +
    [(8. * i, 80.5, 8. * i + .5, 81.) for i in range(1, 8)] +
    [(100. + 4 * i, 20. + 3 * i, 112. + 4 * i, 26. + 3 * i)
     for i in range(7)])

