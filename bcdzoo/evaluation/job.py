"""One network of a pass over the images, with its progress."""

from torch import Tensor

from bcdzoo.data.imagenet import ImageSet
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.chunks import Predictions, Run
from bcdzoo.evaluation.model import EvalModel


class EvalJob:
    """A network, its run on disk, and its current chunk.

    Args:
        model: Network to evaluate.
        run: Run that stores its chunks.
        done: Chunks that any process has finished.

    Attributes:
        failure: Error because of which the network was dropped; the others continue without it.
    """

    def __init__(self, model: EvalModel, run: Run, done: set[int]) -> None:
        self.model, self.run, self.done = model, run, done
        self.failure: BcdzooError | None = None
        self._pending: Predictions | None = None
        self._right = self._seen = 0

    @property
    def before(self) -> int:
        """Number of images that were finished in earlier sessions."""
        return sum(len(self.run.plan.rows(chunk)) for chunk in self.done)

    @property
    def top1(self) -> float:
        """Running top-1 accuracy of this process, in percent."""
        return 100 * self._right / max(self._seen, 1)

    def wants(self, chunk: int) -> bool:
        """Whether this chunk's images should be passed to :meth:`take`."""
        return chunk not in self.done and self.failure is None

    def take(
        self, chunk: int, images: ImageSet, indices: list[int], pixels: Tensor | None, unreadable: list[tuple[int, str]]
    ) -> None:
        """Predict a batch, and write the chunk when it is complete.

        Args:
            chunk: Chunk that these images belong to.
            images: The whole set.
            indices: Indices of the readable images.
            pixels: Pixels of the readable images; None if there are none.
            unreadable: Index and reason for each unreadable image.

        Raises:
            BcdzooError: The chunk cannot be written.
        """
        if self._pending is None:
            self._pending = Predictions(self.run.plan.rows(chunk), self.model.width)
        for index, reason in unreadable:
            self._pending.refuse(index, reason)
        if pixels is not None:
            samples = [images.samples[index] for index in indices]
            try:
                guesses, logits = self.model.guess(pixels, [sample.id for sample in samples])
            except BcdzooError as error:
                self.failure = error
                return
            self._pending.put(indices, guesses, logits)
            self._seen += len(samples)
            self._right += sum(sample.label == guess for sample, guess in zip(samples, guesses[:, 0], strict=True))
        if not self._pending.missing:
            self.run.write(chunk, self._pending.table(images))
            self._pending = None
