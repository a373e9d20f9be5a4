"""How many points a field is asked for, and what one costs."""

from __future__ import annotations

from torch import Tensor

from model.nerf import Field, FieldLattice


class CountingField(Field):
    """A field that counts the lattice points it is asked for."""

    lattice_points = 0

    def lattice(self, axis_world: Tensor, *, rough: bool = False) -> FieldLattice:
        return _CountingLattice(self, axis_world, rough=rough)


class _CountingLattice(FieldLattice):
    def __init__(self, field: CountingField, axis_world: Tensor, rough: bool) -> None:
        super().__init__(field, axis_world, rough=rough)
        self._field = field

    def blocks(self, first: Tensor, side: int, stride: int = 1) -> Tensor:
        self._field.lattice_points += len(first) * side**3
        return super().blocks(first, side, stride)


def flops_per_point(field: Field, lattice: bool) -> int:
    """Of one query: the matrix products, and the interpolation of plane features."""
    layers = field.mlp.linear_layers()
    products = [2 * layer.in_features * layer.out_features for layer in layers]
    if lattice:  # first layer and interpolation are done once for the whole lattice
        return sum(products[1:-1]) + 2 * layers[-1].in_features
    return sum(products) + 2 * 4 * layers[0].in_features
