"""A slow second implementation of the original, to check the package with.

Plain loops over plain numbers, one location, object or pair at a time, in
double precision; written from the formulas alone, with nothing taken from the
package. Boxes are ``(x1, y1, x2, y2)`` tuples in pixels of the
network input.
"""
