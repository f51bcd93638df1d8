"""What fwmagic asks of toylib: no more than has no default, and a colour."""

from __future__ import annotations

import numpy as np
import toylib

from fwmagic.frameworks import Framework


class KeptRow:
    def __init__(self, row):
        self.row, self.numbers = row, list(row.numbers)

    def changed(self):
        return self.row.numbers != self.numbers

    def restore(self):
        self.row.numbers[:] = self.numbers

    def children(self):
        return iter(())


class Toy(Framework):
    name = "toy"
    title = "Toylib"
    module = "toylib"
    colour = "#7B61C4"

    def is_array(self, value):
        return isinstance(value, toylib.Row)

    def keep(self, value):
        return KeptRow(value) if self.is_array(value) else None

    def from_numpy(self, array, device):
        return toylib.Row(array.tolist())

    def to_numpy(self, array):
        return np.array(array.numbers)


FRAMEWORK = Toy()
