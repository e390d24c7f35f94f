"""Images per second of a network in larq-compute-engine; called by packed.py with another environment's Python.

That environment: pip install 'tensorflow-cpu==2.15.*' larq-zoo larq-compute-engine
"""

import sys
import time

import larq_compute_engine
import larq_zoo
import numpy as np
from larq_compute_engine.tflite.python.interpreter import Interpreter

ROUNDS = 5


def main(network: str, batch_size: int, threads: int) -> None:
    flat = larq_compute_engine.convert_keras_model(getattr(larq_zoo.literature, network)(weights=None))
    interpreter = Interpreter(flat, num_threads=threads)
    images = np.random.default_rng(0).standard_normal((batch_size, 224, 224, 3), np.float32)
    interpreter.predict(images[:1])
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        interpreter.predict(images)
        best = min(best, time.perf_counter() - start)
    print(batch_size / best)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
