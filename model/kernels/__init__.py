"""Fused and compiled kernels, each beside the plain PyTorch that it must equal."""


class KernelWarning(UserWarning):
    """A kernel cannot be used on this machine: plain PyTorch does its work, only slower."""
