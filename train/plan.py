"""What a training run takes, before anything is allocated: parameters, FLOPs, memory, days."""

from __future__ import annotations

from dataclasses import dataclass

from model.lrm import parameter_counts
from train.costs import Memory, PartFlops, flops_per_sample, memory_per_gpu, optimizer_flops
from train.recipe import Recipe

# §4.1, §4.2: one copy of Objaverse, three of MVImgNet.
PAPER_SAMPLES_PER_EPOCH = 730_648 + 3 * 220_219
PAPER_GPUS, PAPER_DAYS = 128, 3.0  # §4.2, A100s
DEFAULT_EFFICIENCY = 0.4  # what docs/performance.md aims at; it tells what is reached
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Gpu:
    """Datasheet numbers; memory in decimal gigabytes, a little less than what is there."""

    name: str
    bf16_flops_per_s: float  # dense
    memory_bytes: float
    bandwidth_bytes_per_s: float


GPUS: dict[str, Gpu] = {
    "a100": Gpu("A100 40 GB", 312e12, 40e9, 1.555e12),  # §4.2's
    "h100": Gpu("H100 SXM 80 GB", 989e12, 80e9, 3.35e12),
    "h200": Gpu("H200 141 GB", 989e12, 141e9, 4.8e12),
}


@dataclass(frozen=True)
class Plan:
    """A run on `gpus` GPUs.

    Attributes:
        parameters: by part, as `parameter_counts` has them.
        flops: of one sample, by part.
        optimizer_flops: of one step, on the busiest GPU.
        memory: of one GPU at `micro_batch` samples a forward pass.
        largest_micro_batch: the most samples that fit; 0 if not even one does.
        efficiency: share of the datasheet rate that useful FLOPs reach; recomputation and
            communication are part of it.
        efficiency_is_assumed: nobody gave it.
        frozen: parts that are not trained, which the plan counts as if they were.
    """

    gpu: Gpu
    gpus: int
    parameters: dict[str, int]
    flops: tuple[PartFlops, ...]
    optimizer_flops: int
    memory: Memory
    micro_batch: int
    largest_micro_batch: int
    batch_size: int
    steps: int
    efficiency: float
    efficiency_is_assumed: bool
    frozen: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return self.memory.peak <= self.gpu.memory_bytes

    @property
    def flops_per_sample(self) -> int:
        """The useful ones."""
        return sum(part.useful for part in self.flops)

    @property
    def run_flops(self) -> int:
        """Useful FLOPs of all steps and GPUs."""
        return self.flops_per_sample * self.batch_size * self.steps

    @property
    def step_s(self) -> float:
        rate = self.gpu.bf16_flops_per_s * self.efficiency
        share = self.batch_size // self.gpus
        return (self.flops_per_sample * share + self.optimizer_flops) / rate

    @property
    def days(self) -> float:
        return self.step_s * self.steps / SECONDS_PER_DAY


def plan_training(
    recipe: Recipe,
    gpus: int,
    gpu: Gpu,
    efficiency: float | None = None,
    samples_per_epoch: int = PAPER_SAMPLES_PER_EPOCH,
) -> Plan:
    """Count what a recipe takes on so many GPUs.

    Args:
        recipe: the run's settings; `auto` is bf16 here.
        gpus: of all machines, one process each.
        gpu: their kind.
        efficiency: share of the datasheet's bf16 rate that useful FLOPs reach, 0..1; assumed if
            None.
        samples_per_epoch: of the data, copies counted; only used where the recipe has epochs.

    Raises:
        ValueError: the batch cannot be split evenly, a number is out of its range, or fsdp is
            asked of one GPU.
    """
    if gpus < 1:
        raise ValueError(f"gpus is {gpus}; it must be at least 1")
    if samples_per_epoch < 1:
        raise ValueError(f"samples_per_epoch is {samples_per_epoch}; it must be at least 1")
    if efficiency is not None and not 0 < efficiency <= 1:
        raise ValueError(f"efficiency is {efficiency}; it must be more than 0 and at most 1")
    run = recipe.run
    if run.batch_size % gpus:
        raise ValueError(
            f"run.batch_size is {run.batch_size}; it must be a multiple of the {gpus} GPUs"
        )
    if run.parallel == "fsdp" and gpus == 1:
        raise ValueError("run.parallel is 'fsdp', which needs several GPUs; this plan has one")
    share = run.batch_size // gpus
    micro = min(run.micro_batch_size or share, share)
    parameters = parameter_counts(recipe.model)

    def memory(size: int) -> Memory:
        return memory_per_gpu(recipe, gpus, size, parameters)

    fitting = (n for n in range(share, 0, -1) if memory(n).peak <= gpu.memory_bytes)
    return Plan(
        gpu=gpu,
        gpus=gpus,
        parameters=parameters,
        flops=flops_per_sample(recipe),
        optimizer_flops=optimizer_flops(recipe, gpus),
        memory=memory(micro),
        micro_batch=micro,
        largest_micro_batch=next(fitting, 0),
        batch_size=run.batch_size,
        steps=run.total_steps(samples_per_epoch),
        efficiency=DEFAULT_EFFICIENCY if efficiency is None else efficiency,
        efficiency_is_assumed=efficiency is None,
        frozen=recipe.optimizer.freeze,
    )


def paper_efficiency() -> float:
    """The share of 128 A100s' datasheet rate that the paper's three days come to (§4.2)."""
    recipe = Recipe()
    samples = recipe.run.batch_size * recipe.run.total_steps(PAPER_SAMPLES_PER_EPOCH)
    flops = samples * sum(part.useful for part in flops_per_sample(recipe))
    rate = PAPER_GPUS * GPUS["a100"].bf16_flops_per_s
    return flops / (PAPER_DAYS * SECONDS_PER_DAY * rate)


def plan_rows(plan: Plan) -> list[tuple[str, str]]:
    """The plan as (label, value) lines of a table; labels of parts are indented."""
    recomputed = sum(part.recomputed for part in plan.flops)
    assumed = "assumed" if plan.efficiency_is_assumed else "as given"
    limit = plan.gpu.memory_bytes
    fits = "fits" if plan.fits else "DOES NOT FIT"
    rows = [("parameters", f"{plan.parameters['total']:,}")]
    rows += [
        (f"    {part}" if part.startswith("of these") else f"  {part}", f"{count:,}")
        for part, count in plan.parameters.items()
        if part != "total"
    ]
    if plan.frozen:
        rows += [("frozen", f"{', '.join(plan.frozen)}; counted as if not, so less is needed")]
    rows += [("useful FLOPs per sample, forward + backward", _flops(plan.flops_per_sample))]
    rows += [(f"  {p.part}", f"{_flops(p.forward)} + {_flops(p.backward)}") for p in plan.flops]
    rows += [("recomputed besides, to save memory", _flops(recomputed))]
    rows += [(f"  {p.part}", _flops(p.recomputed)) for p in plan.flops if p.recomputed]
    rows += [
        (
            f"memory per GPU, {plan.micro_batch} samples a forward pass",
            f"{_gigabytes(plan.memory.peak)} of {_gigabytes(limit)}: {fits}",
        )
    ]
    groups = (
        ("", plan.memory.lasting),
        ("", plan.memory.held),
        ("at a time: ", plan.memory.passing),
        ("at a time: ", {"gradients in one piece, after the backward pass": plan.memory.exchange}),
        ("at a time: ", {"Muon's step, after the backward pass": plan.memory.step}),
    )
    rows += [
        (f"  {mark}{k}", _gigabytes(v)) for mark, group in groups for k, v in group.items() if v
    ]
    share = plan.batch_size // plan.gpus
    largest = f"{plan.largest_micro_batch} of a GPU's {share}"
    # Weights and moments are read and written, gradients read, all of them float32.
    lasting = plan.memory.lasting
    update_bytes = 3 * lasting["weights"] + 2 * lasting["the optimizer's moments"]
    update_s = update_bytes / plan.gpu.bandwidth_bytes_per_s
    muon = [("  in it Muon's products, on each GPU", _flops(plan.optimizer_flops))]
    return [
        *rows,
        ("largest micro batch that fits", largest if plan.largest_micro_batch else "none"),
        ("GPUs", f"{plan.gpus} × {plan.gpu.name}, {plan.gpu.bf16_flops_per_s / 1e12:g} TFLOP/s"),
        (
            "efficiency of useful FLOPs",
            f"{plan.efficiency:.1%} of the datasheet's bf16 rate ({assumed})",
        ),
        ("steps", f"{plan.steps:,} of {plan.batch_size:,} samples"),
        ("time per step", f"{plan.step_s:.3g} s; the all-reduce is not modelled"),
        *(muon if plan.optimizer_flops else []),
        ("  the optimizer reads and writes for at least", f"{update_s * 1e3:.1f} ms"),
        ("useful FLOPs of the run", f"{plan.run_flops:.2e}"),
        ("whole run", f"{plan.days:.3g} days, {plan.days * 24 * plan.gpus:,.0f} GPU hours"),
        (
            f"the paper's run: {PAPER_DAYS:g} days on {PAPER_GPUS} A100s",
            f"{paper_efficiency():.1%} of the datasheet's rate, by this count",
        ),
    ]


def _flops(flops: int) -> str:
    return f"{flops / 1e12:.3g} TFLOP" if flops >= 1e11 else f"{flops / 1e9:.3g} GFLOP"


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
