"""A tiny array library, of which fwmagic knows nothing: arrays are rows of floats that can be changed in place."""

from __future__ import annotations

__version__ = "0.5"


class Row:
    """A row of floats."""

    dtype = "float64"

    def __init__(self, numbers):
        self.numbers = [float(number) for number in numbers]

    @property
    def shape(self):
        return (len(self.numbers),)

    @property
    def nbytes(self):
        return 8 * len(self.numbers)

    def __add__(self, other):
        return Row(a + b for a, b in zip(self.numbers, other.numbers, strict=True))

    def __setitem__(self, place, number):
        self.numbers[place] = float(number)

    def sum(self):
        return Row([sum(self.numbers)])


def ones(length):
    return Row([1.0] * length)
