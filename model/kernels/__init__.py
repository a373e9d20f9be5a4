"""Fused GPU kernels (Triton), each beside the plain PyTorch that it must equal."""
