"""One stage of training, from its start or from where a killed run left off."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.preprocess import parse
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.loop import evaluate
from bcdzoo.layers.quantizers.base import set_training_progress
from bcdzoo.train import checkpoint
from bcdzoo.train.images import TrainingImages, batches, derived_seed
from bcdzoo.train.loss import Objective
from bcdzoo.train.metrics import Metrics
from bcdzoo.train.processes import Processes
from bcdzoo.train.recipe import Stage
from bcdzoo.train.schedule import learning_rate

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Batches = Iterator[tuple[Tensor, Tensor]]


def checkpoint_path(folder: Path, stage: Stage) -> Path:
    """Where a stage's checkpoint lies."""
    return folder / f"{stage.name}.checkpoint.pt"


def train_stage(
    network: nn.Module,
    stage: Stage,
    images: ImageSet,
    folder: Path,
    *,
    processes: Processes,
    teacher: nn.Module | None = None,
    test_images: ImageSet | None = None,
    workers: int = 0,
    tensorboard: bool = False,
) -> None:
    """Train a network for all iterations of a stage, on from the folder's checkpoint where there is one.

    The weights do not depend on how often the run was killed: everything random is derived from the seed and the place
    in the run, and the checkpoint holds the rest.

    Args:
        network: Trained in place.
        stage: What to do.
        images: What to train on.
        folder: Of the checkpoint and the metrics.
        processes: This process among those that train together.
        teacher: In evaluation mode, on the device.
        test_images: Evaluated every ``evaluate_every`` iterations.
        workers: Processes that read images.
        tensorboard: Whether to write TensorBoard's files.

    Raises:
        BcdzooError: The loss is not finite (the last good checkpoint is kept), an image cannot be read, or the
            checkpoint is damaged.
    """
    path = checkpoint_path(folder, stage)
    training = _Training(network, stage, processes, teacher)
    done = training.resume(path)
    metrics = Metrics(folder, stage.name, done, tensorboard) if processes.first else None
    loader = iter(batches(TrainingImages(images, stage), stage, processes, done, workers))
    recent = _Recent(processes)
    hidden = None if processes.first else True  # None: shown on a terminal
    with tqdm(total=stage.iterations, initial=done, desc=stage.name, disable=hidden) as progress:
        while done < stage.iterations:
            lr = training.update(done, loader, recent)
            done += 1
            progress.update()
            saving = done == stage.iterations or done % stage.checkpoint_every == 0
            evaluating = test_images and stage.evaluate_every and done % stage.evaluate_every == 0
            if not (saving or evaluating or done % stage.log_every == 0):
                continue
            values = recent.take()
            if not (math.isfinite(values["loss"]) and training.is_finite()):
                raise BcdzooError(_not_finite(path, stage, done))
            progress.set_postfix_str(f"loss {values['loss']:.3f}, {values['train_top1']:.1f} %", refresh=False)
            if metrics is None:
                continue
            metrics.add(done, lr=lr, **values)
            if test_images and evaluating:
                metrics.add(done, test_top1=_top1(network, test_images, stage, processes.device))
            if saving:
                checkpoint.save(path, training.state(done))
    processes.wait()


class _Training:
    """A network with all that trains it."""

    def __init__(self, network: nn.Module, stage: Stage, processes: Processes, teacher: nn.Module | None) -> None:
        self.stage, self.processes, self.teacher = stage, processes, teacher
        self.preprocess = parse(stage.preprocess)
        self.layout = torch.channels_last if stage.channels_last else torch.contiguous_format
        self.network = network.to(processes.device).to(memory_format=self.layout).train()
        self.optimizer = _optimizer(self.network, stage)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=stage.precision == "float16")
        self.objective = self._objective()

    def _objective(self) -> Any:
        if self.stage.sync_bn and self.processes.count > 1 and self.processes.device.type == "cuda":
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        objective: nn.Module = Objective(self.network, self.stage.label_smoothing, self.stage.distillation)
        if self.processes.count > 1:
            objective = DistributedDataParallel(objective)
        return torch.compile(objective) if self.stage.compile else objective

    def update(self, done: int, loader: Batches, recent: "_Recent") -> float:
        """Make the update after ``done`` others, from the loader's next parts of a batch; returns its learning rate."""
        lr = learning_rate(self.stage, done)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        set_training_progress(self.network, done / self.stage.iterations)
        self.optimizer.zero_grad()
        for part in range(1, self.stage.accumulate + 1):
            images, labels = self._to_device(*next(loader))
            self._seed("update", done, part, self.processes.rank)
            alone = self.processes.count == 1 or part == self.stage.accumulate
            with nullcontext() if alone else self.objective.no_sync():
                with self._autocast():
                    with torch.no_grad():
                        taught = self.teacher(images) if self.teacher else None
                    loss, right = self.objective(images, labels, taught)
                self.scaler.scale(loss / self.stage.accumulate).backward()
            recent.add(loss, right, len(labels))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return lr

    def _seed(self, *parts: object) -> None:
        seed = derived_seed(self.stage.seed, self.stage.name, *parts)
        torch.default_generator.manual_seed(seed)
        if self.processes.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def _to_device(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images = self.preprocess.normalize(images.to(self.processes.device, non_blocking=True))
        return images.contiguous(memory_format=self.layout), labels.to(self.processes.device, non_blocking=True)

    def _autocast(self) -> torch.autocast:
        dtype = _DTYPES[self.stage.precision]
        return torch.autocast(self.processes.device.type, dtype, enabled=dtype != torch.float32)

    def is_finite(self) -> bool:
        """Whether every weight is."""
        return all(bool(p.isfinite().all()) for p in self.network.parameters())

    def state(self, done: int) -> dict[str, Any]:
        """All that :meth:`resume` needs."""
        return {
            "done": done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def resume(self, path: Path) -> int:
        """Go on from a checkpoint where there is one; returns the number of updates that are done."""
        state = checkpoint.load(path)
        if state is None:
            return 0
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        done: int = state["done"]
        return done


class _Recent:
    """Loss and right answers since they were last asked for."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._start()

    def _start(self) -> None:
        self.loss_right_images = torch.zeros(3, dtype=torch.float64, device=self.processes.device)
        self.since = time.perf_counter()

    def add(self, loss: Tensor, right: Tensor, images: int) -> None:
        """Add a batch's mean loss, its number of right answers and of images."""
        self.loss_right_images += torch.stack([loss.detach() * images, right, torch.full_like(right, images)])

    def take(self) -> dict[str, float]:
        """Means over all processes since the last call."""
        if self.processes.count > 1:
            torch.distributed.all_reduce(self.loss_right_images)
        loss, right, images = self.loss_right_images.tolist()
        speed = images / (time.perf_counter() - self.since)
        self._start()
        return {"loss": loss / images, "train_top1": 100 * right / images, "images_per_second": speed}


def _optimizer(network: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    kinds: dict[str, type[torch.optim.AdamW | torch.optim.Adam]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
    }
    parameters = list(network.parameters())
    decayed = [p for p in parameters if stage.decay == "all" or p.ndim == 4]
    others = [p for p in parameters if not (stage.decay == "all" or p.ndim == 4)]
    groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return kinds[stage.optimizer]([group for group in groups if group["params"]], lr=stage.lr, fused=True)


def _top1(network: nn.Module, images: ImageSet, stage: Stage, device: torch.device) -> float:
    try:
        return evaluate(network, images, preprocess=stage.preprocess, device=device, progress=False).top1
    finally:
        network.train()


def _not_finite(path: Path, stage: Stage, done: int) -> str:
    kept = checkpoint.load(path)
    where = f"the checkpoint after {kept['done']} updates is kept in {path}" if kept else "there was no checkpoint yet"
    return (
        f"{stage.name}: the loss or a weight is not finite any more after {done} updates; {where}; "
        "try a lower lr or a longer warmup"
    )
