"""One stage of training, from its start or resumed from a checkpoint."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
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
from bcdzoo.layers.quantizers.base import set_training_progress, start_epoch
from bcdzoo.processes import Processes
from bcdzoo.text import printable
from bcdzoo.train import checkpoint
from bcdzoo.train.images import TrainingImages, batches, derived_seed
from bcdzoo.train.loss import Objective
from bcdzoo.train.metrics import Metrics
from bcdzoo.train.recipe import Stage
from bcdzoo.train.schedule import learning_rate

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Batches = Iterator[tuple[Tensor, Tensor]]


def checkpoint_path(folder: Path, stage: Stage) -> Path:
    """Path of a stage's checkpoint."""
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
) -> int:
    """Train a network for all iterations of a stage, resuming from the folder's checkpoint if there is one.

    The weights do not depend on interruptions: everything random is derived from the seed and the position
    in the run, and the checkpoint holds the rest.

    Args:
        network: Network to train, in place.
        stage: Options of the stage.
        images: Training images.
        folder: Folder for the checkpoint and the metrics.
        processes: This process among those that train together.
        teacher: Teacher, in evaluation mode, on the device.
        test_images: Images to evaluate every ``evaluate_every`` iterations.
        workers: Number of processes that read images.
        tensorboard: Whether to write TensorBoard files.

    Returns:
        The number of updates of the final weights: all, or with ``keep = "best"``, in the first process, those up to
        the best evaluation.

    Raises:
        BcdzooError: The loss is not finite (the last good checkpoint is kept), an image cannot be read, or the
            checkpoint is damaged.
    """
    path = checkpoint_path(folder, stage)
    training = _Training(network, stage, processes, teacher)
    done = training.resume(path)
    metrics = Metrics(folder, stage.name, done, tensorboard) if processes.first else None
    loader = batches(TrainingImages(images, stage), stage, processes, done, workers)
    recent = _Recent(processes)
    hidden = None if processes.first else True  # None shows it on a terminal only
    with tqdm(total=stage.iterations, initial=done, desc=stage.name, disable=hidden) as progress:
        while done < stage.iterations:
            if done * stage.batch_size // len(images) != (done - 1) * stage.batch_size // len(images):
                start_epoch(network)
            lr = training.update(done, loader, recent)
            done += 1
            progress.update()
            saving = done == stage.iterations or done % stage.checkpoint_every == 0
            last = done == stage.iterations and stage.keep == "best"
            evaluating = test_images and stage.evaluate_every and (done % stage.evaluate_every == 0 or last)
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
                top1 = _top1(network, test_images, stage, processes.device)
                metrics.add(done, test_top1=top1)
                training.note(done, top1)
            if saving:
                checkpoint.save(path, training.state(done))
    processes.wait()
    return training.ended(done)


class _Training:
    """A network with its optimizer and objective."""

    def __init__(self, network: nn.Module, stage: Stage, processes: Processes, teacher: nn.Module | None) -> None:
        self.stage, self.processes, self.teacher = stage, processes, teacher
        self.preprocess = parse(stage.preprocess)
        self.layout = torch.channels_last if stage.channels_last else torch.contiguous_format
        self.network = network.to(processes.device).to(memory_format=self.layout).train()
        self.optimizer = _optimizer(self.network, stage)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=stage.precision == "float16")
        self.best: dict[str, Any] | None = None
        self.objective = self._objective()

    def _objective(self) -> Any:
        if self.stage.sync_bn and self.processes.count > 1 and self.processes.device.type == "cuda":
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        objective: nn.Module = Objective(self.network, self.stage.label_smoothing, self.stage.distillation)
        if self.processes.count > 1:
            objective = DistributedDataParallel(objective)
        return torch.compile(objective) if self.stage.compile else objective

    def update(self, done: int, loader: Batches, recent: "_Recent") -> float:
        """Make the update after ``done`` others with the loader's next batch; returns the learning rate."""
        lr = learning_rate(self.stage, done)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        set_training_progress(self.network, done / self.stage.iterations)
        self.optimizer.zero_grad()
        for part in range(1, self.stage.accumulate + 1):
            images, labels = self._to_device(*_next(loader))
            self._seed("update", done, part, self.processes.rank)
            alone = self.processes.count == 1 or part == self.stage.accumulate
            with nullcontext() if alone else self.objective.no_sync(), self._explained():
                with self._autocast():
                    with torch.no_grad():
                        taught = self.teacher(images) if self.teacher else None
                    loss, right = self.objective(images, labels, taught)
                self.scaler.scale(loss / self.stage.accumulate).backward()
            recent.add(loss, right, len(labels))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return lr

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            advice = "increase accumulate or decrease batch_size"
            raise BcdzooError(f"{self.stage.name}: {self.processes.device} has too little memory: {advice}") from None
        except Exception as error:
            if not (self.stage.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))):
                raise
            reason = " ".join(str(error).split())[:300]
            raise BcdzooError(f"torch.compile fails, --set compile=false avoids it: {reason}") from error

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
        """Whether every weight is finite."""
        return all(bool(p.isfinite().all()) for p in self.network.parameters())

    def state(self, done: int) -> dict[str, Any]:
        """Return the state for :meth:`resume`."""
        return {
            "done": done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "stage": self.stage.to_json(),
        }

    def note(self, done: int, top1: float) -> None:
        """Remember the weights if the best are to be kept and these are better than all before."""
        if self.stage.keep == "best" and (self.best is None or top1 > self.best["top1"]):
            weights = {key: value.detach().cpu().clone() for key, value in self.network.state_dict().items()}
            self.best = {"done": done, "top1": top1, "network": weights}

    def ended(self, done: int) -> int:
        """Restore the weights to keep; returns their number of updates."""
        if self.best is None:
            return done
        self.network.load_state_dict(self.best["network"])
        kept: int = self.best["done"]
        return kept

    def resume(self, path: Path) -> int:
        """Resume from a checkpoint if there is one; returns the number of finished updates."""
        state = checkpoint.load(path)
        if state is None:
            return 0
        if differences := _differences(state.get("stage", {}), self.stage.to_json()):
            raise BcdzooError(
                f"{path} is from a stage with other options ({differences}): delete it to train this stage again, or "
                "choose another folder with --out"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            self.best = state.get("best")
            done = int(state["done"])
            if not 0 <= done <= self.stage.iterations:
                raise ValueError(f"it has {done} of {self.stage.iterations} updates")
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BcdzooError(
                f"{path} is not from this network: {reason}; delete it to train this stage again"
            ) from None
        return done


def _differences(then: dict[str, Any], now: dict[str, Any]) -> str:
    """Describe options that have changed, ignoring those that an older version did not have."""
    others = [key for key in now if then.get(key, now[key]) != now[key]]
    return ", ".join(f"{key} was {printable(repr(then[key]), 60)} but is {now[key]!r}" for key in others)


def _next(loader: Batches) -> tuple[Tensor, Tensor]:
    try:
        return next(loader)
    except BcdzooError as error:  # a worker process prepends its traceback to the message
        message = str(error).strip().splitlines()[-1]
        raise BcdzooError(message.removeprefix(f"{BcdzooError.__module__}.{BcdzooError.__qualname__}: ")) from None


class _Recent:
    """Loss and correct predictions since the last :meth:`take`."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self._start()

    def _start(self) -> None:
        self.loss_right_images = torch.zeros(3, dtype=torch.float64, device=self.processes.device)
        self.since = time.perf_counter()

    def add(self, loss: Tensor, right: Tensor, images: int) -> None:
        """Add a batch's mean loss, number of correct predictions, and number of images."""
        self.loss_right_images += torch.stack([loss.detach() * images, right, torch.full_like(right, images)])

    def take(self) -> dict[str, float]:
        """Return means over all processes since the last call."""
        if self.processes.count > 1:
            torch.distributed.all_reduce(self.loss_right_images)
        loss, right, images = self.loss_right_images.tolist()
        speed = images / (time.perf_counter() - self.since)
        self._start()
        return {"loss": loss / images, "train_top1": 100 * right / images, "images_per_second": speed}


def _optimizer(network: nn.Module, stage: Stage) -> torch.optim.Optimizer:
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
        "sgd": partial(torch.optim.SGD, momentum=0.9),
    }
    parameters = list(network.parameters())
    shifts = [getattr(module, name) for module in network.modules() for name in getattr(module, "shifts", ())]
    chosen = {
        "all": parameters,
        "convolutions": [p for p in parameters if p.ndim == 4],
        "authors": [p for p in parameters if p.ndim == 4] + shifts,
    }
    wanted = set(map(id, chosen[stage.decay]))
    decayed, others = [p for p in parameters if id(p) in wanted], [p for p in parameters if id(p) not in wanted]
    groups = [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return kinds[stage.optimizer]([group for group in groups if group["params"]], lr=stage.lr, fused=True)


def _top1(network: nn.Module, images: ImageSet, stage: Stage, device: torch.device) -> float:
    try:
        return evaluate(network, images, preprocess=stage.preprocess, device=device, progress=False, check=False).top1
    finally:
        network.train()


def _not_finite(path: Path, stage: Stage, done: int) -> str:
    kept = checkpoint.load(path)
    where = f"the checkpoint after {kept['done']} updates is kept in {path}" if kept else "there was no checkpoint yet"
    return (
        f"{stage.name}: the loss or a weight is no longer finite after {done} updates; {where}; "
        "try a lower lr or a longer warmup"
    )
