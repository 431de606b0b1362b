"""These kernels for CPUs use Numba with vectors in registers, so you need no compiler of your own.

`vectors` gives Numba registers full of samples, and `linear`, `conv2d`, `norm` and `transpose` are the compiled
kernels. `plans`, `threads`, `calls` and `copies` connect them with torch.
"""
