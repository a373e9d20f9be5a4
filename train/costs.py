"""FLOPs and bytes of a training sample, as closed forms of the recipe's numbers.

A multiply-add is two FLOPs; what is done element by element (norms, activations, compositing) is
not counted. Useful FLOPs are those that a run with endless memory would need: what is computed a
second time to save memory is told apart.

Legend: M image tokens, N triplane tokens, L layers, S samples of a ray.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from model.conditioning import CAMERA_FEATURES
from model.config import LrmConfig
from model.lrm import LRM
from train.muon import ROUNDS, step_bytes, team_size
from train.optimizer import hidden_matrices
from train.recipe import Recipe

# VGG-16's convolutions, LPIPS's backbone: a pooling stands between two blocks, and each block's
# last output is compared.
_VGG_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Context, NCCL's buffers, cuBLAS's workspace, what the allocator cannot use: a guess.
_RUNTIME_BYTES = 2 * 10**9


@dataclass(frozen=True)
class PartFlops:
    """FLOPs of one sample in one part; `recomputed` ones repeat `forward` and are not useful."""

    part: str
    forward: int
    backward: int
    recomputed: int = 0

    @property
    def useful(self) -> int:
        return self.forward + self.backward


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, of plain PyTorch: `torch.compile` and fused rendering take less.

    Attributes:
        lasting: there all the time.
        held: from a micro batch's forward pass to its backward pass.
        passing: needed one after the other while the former are there.
        exchange: the flat copy of all gradients for the all-reduce; activations are gone by then.
        step: what the optimizer needs besides its moments, after that.
    """

    lasting: dict[str, int]
    held: dict[str, int]
    passing: dict[str, int]
    exchange: int
    step: int

    @property
    def peak(self) -> int:
        part = sum(self.held.values()) + max(self.passing.values(), default=0)
        return sum(self.lasting.values()) + max(part, self.exchange, self.step)


def flops_per_sample(recipe: Recipe) -> tuple[PartFlops, ...]:
    """FLOPs of one sample's forward and backward pass, part by part.

    A product's backward pass is two products of its size, one for each factor; it is one where
    a factor needs no gradient: pictures, camera features, points, the frozen VGG-16.
    """
    encoder, decoder, nerf = recipe.model.encoder, recipe.model.decoder, recipe.model.nerf
    channels, width, camera = recipe.model.triplane.channels, decoder.width, decoder.camera_width
    m, n = _image_tokens(recipe), _triplane_tokens(recipe)

    def trained(part: str, forward: int, recomputed: bool, without_gradient: int = 0) -> PartFlops:
        return PartFlops(
            part, forward, 2 * forward - without_gradient, forward if recomputed else 0
        )

    patches = _product(m - 1, 3 * encoder.patch_size**2, encoder.width)
    inside = m + encoder.registers
    blocks = _product(inside, encoder.width, 12 * encoder.width)
    blocks += 2 * _product(inside, encoder.width, inside)
    blocks *= encoder.layers
    again = recipe.run.activation_checkpointing
    from_features, embedding = _product(1, CAMERA_FEATURES, camera), _product(1, camera, camera)
    modulation = 3 * _product(1, camera, 2 * width)
    if decoder.modulation == "mlp":
        modulation += 3 * embedding
    elif decoder.modulation == "none":
        from_features = embedding = modulation = 0
    mlp = _product(n, width, (8 if decoder.feed_forward == "gelu" else 12) * width)
    ends = 2 * _product(n, width, width) if decoder.ends == "residual" else 0
    cross = 2 * _product(n, width, width) + _product(m, encoder.width, 2 * width)
    cross += 2 * _product(n, width, m)
    self_attention = _product(n, width, 4 * width) + 2 * _product(n, width, n)
    upsampling = _product(n, width, channels * recipe.model.triplane.upsample**2)

    points = _rays(recipe) * recipe.run.samples_per_ray
    hidden = 3 * channels * nerf.width + (nerf.layers - 2) * nerf.width**2 + nerf.width * 4
    # Where rays come in chunks, deferred back-propagation renders all of them first, to compare
    # pictures (train.deferred).
    at_once = _rays_at_once(recipe, recipe.run.micro_batch_size or recipe.run.batch_size)
    twice = recipe.loss.perceptual != "none" and at_once < _rays(recipe)
    sampling = _product(points, 4, 3 * channels)  # four texels of each plane
    parts = [
        PartFlops("encoder", patches + blocks, patches + 2 * blocks, blocks if again else 0),
        trained(
            "camera embedding",
            from_features + embedding,
            recomputed=False,
            without_gradient=from_features,
        ),
        trained("modulation (MLP_mod)", decoder.layers * modulation, again),
        trained("decoder: cross-attention", decoder.layers * cross, again),
        trained("decoder: self-attention", decoder.layers * self_attention, again),
        trained("decoder: MLP", decoder.layers * mlp, again),
        trained("decoder: ends", ends, recomputed=False),
        trained("plane upsampling", upsampling, recomputed=False),
        trained("field: plane sampling", sampling, twice, without_gradient=sampling),
        trained("field: MLP", _product(points, hidden, 1), twice),
    ]
    if recipe.loss.perceptual == "lpips":
        one = recipe.data.views * sum(
            _product(side**2, 9 * inputs, outputs)
            for inputs, outputs, side in _vgg_convolutions(recipe.data.crop)
        )
        parts.append(PartFlops("perceptual (VGG-16)", 2 * one, one))  # of the truth no gradient
    return tuple(part for part in parts if part.forward)  # some models lack some


def optimizer_flops(recipe: Recipe, gpus: int) -> int:
    """Of a step, on the busiest GPU: the products that orthogonalise; Muon's alone."""
    if recipe.optimizer.name != "muon":
        return 0
    sharing = _sharing_muon(recipe, gpus)
    alike = Counter(_hidden_shapes(recipe.model))  # of one shape each GPU gets as many, or fewer
    return sum(
        math.ceil(count / sharing) * ROUNDS * (4 * short**2 * long + 2 * short**3)
        for (short, long), count in ((sorted(shape), count) for shape, count in alike.items())
    )


def _sharing_muon(recipe: Recipe, gpus: int) -> int:
    """How many GPUs divide Muon's work among them."""
    return gpus if recipe.run.parallel == "fsdp" else team_size(gpus)


@functools.cache
def _hidden_shapes(config: LrmConfig) -> tuple[torch.Size, ...]:
    with torch.device("meta"):
        return tuple(matrix.shape for matrix in hidden_matrices(LRM(config)))


def memory_per_gpu(
    recipe: Recipe, gpus: int, micro_batch: int, parameters: dict[str, int]
) -> Memory:
    """Bytes on one GPU with so many samples in a forward pass.

    Args:
        parameters: what `parameter_counts` says of the recipe's model.
    """
    run = recipe.run
    total = 4 * parameters["total"]  # everything that lasts is float32
    spread = gpus if run.parallel == "fsdp" else 1
    # FSDP leaves gradients whole until the last micro batch's are added.
    whole_gradients = spread == 1 or micro_batch < run.batch_size // gpus
    moments, step = 2 * total, 0  # a fused AdamW works in place
    if recipe.optimizer.name == "muon":  # which keeps one where AdamW keeps two
        shapes = _hidden_shapes(recipe.model)
        moments -= 4 * sum(shape.numel() for shape in shapes)
        step = step_bytes(shapes, _sharing_muon(recipe, gpus), spread, product_bytes=2)
    lasting = {
        "weights": total // spread,
        "gradients": total if whole_gradients else total // spread,
        "the optimizer's moments": moments // spread,
    }
    if run.ema_decay:
        lasting["averaged weights (EMA)"] = total // spread
    if run.parallel == "fsdp":
        # One layer is computed while the next one is gathered.
        layer = 4 * parameters["decoder"] // recipe.model.decoder.layers
        lasting["layers gathered by FSDP"] = 2 * layer
    lasting["CUDA, NCCL, allocator (a guess)"] = _RUNTIME_BYTES

    encoder_layer, decoder_layer, rest = activation_bytes(recipe)
    layers = recipe.model.encoder.layers, recipe.model.decoder.layers
    held: dict[str, int] = {}
    passing = {"one chunk of rays": _ray_chunk_bytes(recipe, micro_batch)}
    if recipe.loss.perceptual != "none" and _rays_at_once(recipe, micro_batch) == _rays(recipe):
        held["all rays"] = passing.pop("one chunk of rays")  # while pictures are compared
    if run.activation_checkpointing:
        encoder_layer_input = 4 * _image_tokens(recipe) * recipe.model.encoder.width
        decoder_layer_input = 4 * _triplane_tokens(recipe) * recipe.model.decoder.width
        kept = layers[0] * encoder_layer_input + layers[1] * decoder_layer_input + rest
        passing["one transformer layer again"] = micro_batch * max(encoder_layer, decoder_layer)
    else:
        kept = layers[0] * encoder_layer + layers[1] * decoder_layer + rest
    held["activations of the transformer"] = micro_batch * kept
    if _bytes_per_value(recipe) == 2:
        # Autocast's, FSDP or not: autograd keeps them. Checkpointed layers make theirs again, and
        # autocast's cache holds all of them only until the forward pass ends.
        copies = passing if run.activation_checkpointing else held
        copies["bf16 copies of the weights"] = total // 2
    side = recipe.model.decoder.token_resolution * recipe.model.triplane.upsample
    planes = 3 * recipe.model.triplane.channels * side**2
    # float32 and its gradient; the transformer's own, in bf16, and the gradient that it gets
    bytes_per_texel = 8 + (4 if _bytes_per_value(recipe) == 2 else 0)
    held["planes and their gradient"] = micro_batch * planes * bytes_per_texel
    if recipe.loss.perceptual == "lpips":
        passing["perceptual network"] = micro_batch * recipe.data.views * _perceptual_bytes(recipe)
    exchange = total if run.parallel == "ddp" and gpus > 1 else 0
    return Memory(lasting, held, passing, exchange, step)


def activation_bytes(recipe: Recipe) -> tuple[int, int, int]:
    """What autograd saves of one sample: an encoder layer, a decoder layer, all besides layers.

    The residual stream is float32 even under autocast; every norm saves it. Attention saves its
    inputs and its output, never the N × N weights (a fused kernel, as on every GPU here).
    """
    encoder, decoder = recipe.model.encoder, recipe.model.decoder
    value = _bytes_per_value(recipe)
    m, n = _image_tokens(recipe), _triplane_tokens(recipe)
    # A norm's input and the linear layer's; q, k, v and the output; the MLP around its GELU.
    encoder_layer = m * encoder.width * (2 * (4 + value) + 4 * value + 8 * value)
    encoder_layer += 4 * m * encoder.heads  # log of the softmax's denominators
    # ModLN also saves the normed tokens, which its scale multiplies. Cross-attention saves q and
    # its output here; k, v, and autocast's copy of the image tokens below.
    decoder_layer = n * decoder.width * (3 * (8 + value) + 2 * value + 4 * value + 8 * value)
    decoder_layer += m * (2 * decoder.width * value + (encoder.width * 2 if value == 2 else 0))
    decoder_layer += 2 * 4 * n * decoder.heads
    # The picture, the encoder's final norm, what the deconvolution reads. The decoder's final norm
    # is made up for by its first layer, whose tokens are a parameter.
    rest = 3 * encoder.image_size**2 * value + 8 * m * encoder.width + n * decoder.width * value
    return encoder_layer, decoder_layer, rest


def _rays(recipe: Recipe) -> int:
    """Of one sample."""
    return recipe.data.views * recipe.data.crop**2


def _rays_at_once(recipe: Recipe, micro_batch: int) -> int:
    """Of each sample of a micro batch."""
    return min(_rays(recipe), max(1, recipe.run.rays_per_chunk // micro_batch))


def _product(rows: int, inner: int, columns: int) -> int:
    return 2 * rows * inner * columns


def _image_tokens(recipe: Recipe) -> int:
    encoder = recipe.model.encoder
    return 1 + (encoder.image_size // encoder.patch_size) ** 2


def _triplane_tokens(recipe: Recipe) -> int:
    return 3 * recipe.model.decoder.token_resolution**2


def _bytes_per_value(recipe: Recipe) -> int:
    """Of what matrix products read and write."""
    return 4 if recipe.run.dtype == "fp32" else 2


def _vgg_convolutions(side: int) -> Iterator[tuple[int, int, int]]:
    """Channels in, channels out and side of the picture of each 3 × 3 convolution."""
    inputs = 3
    for i, block in enumerate(_VGG_BLOCKS):
        for outputs in block:
            yield inputs, outputs, side >> i
            inputs = outputs


def _perceptual_bytes(recipe: Recipe) -> int:
    """Of one pair of pictures: LPIPS runs in float32."""
    crop = recipe.data.crop
    outputs = sum(out * side**2 for _, out, side in _vgg_convolutions(crop))
    ends = [(block[-1], crop >> i) for i, block in enumerate(_VGG_BLOCKS)]
    compared = sum(channels * side**2 for channels, side in ends)
    pooled = sum(channels * (side // 2) ** 2 for channels, side in ends[:-1])
    # Pooling saves its output and 8-byte indices. Of what is compared there are the true
    # picture's features, both normed, the difference and its square.
    return 4 * (outputs + 3 * pooled + 5 * compared)


def _ray_chunk_bytes(recipe: Recipe, micro_batch: int) -> int:
    """Of rendering one chunk of rays in plain PyTorch with a graph (model.rendering)."""
    value, nerf = _bytes_per_value(recipe), recipe.model.nerf
    features = 3 * recipe.model.triplane.channels
    rays = micro_batch * _rays_at_once(recipe, micro_batch)
    # Saved: where the three planes are read, what each linear layer reads, the colours' sigmoid;
    # float32: the density's input, four steps of compositing, distances and colours.
    saved = 24 + value * (features + (nerf.layers - 1) * nerf.width + 3) + 36
    # Before the MLP starts: features as they are sampled, side by side, and in bf16.
    sampling = 24 + features * (8 if value == 4 else 10)
    return rays * recipe.run.samples_per_ray * max(saved, sampling)
