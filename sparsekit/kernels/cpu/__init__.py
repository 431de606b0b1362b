"""The kernels for CPUs: Numba with vectors in registers, compiled on the user's machine without any compiler there.

`vectors` gives Numba registers full of samples; `linear`, `conv2d`, `norm` and `transpose` are the compiled kernels;
`plans`, `threads`, `calls` and `copies` stand between them and torch.
"""
