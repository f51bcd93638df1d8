"""Benchmarks of fwmagic's own method, beside `%timeit` and `torch.utils.benchmark`: see `python -m benchmarks -h`."""
