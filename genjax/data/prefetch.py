"""Batches made by threads before they are asked for."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

_HIDDEN = ("_pool", "_ahead", "_lock")


class Prefetched:
    """Batch i, or some of its rows, prepared ahead; a subclass says in `_make` what it is.

    Args:
      batch_size: B, over all processes.
      prefetch: batches prepared ahead, each by its own thread; 0 = none. Changes the speed, never the batches.
    """

    def __init__(self, batch_size: int, prefetch: int):
        self.batch_size, self.prefetch = int(batch_size), int(prefetch)
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[tuple, Future] = {}
        self._lock = threading.Lock()

    def _make(self, i: int, lo: int, hi: int) -> dict[str, np.ndarray]:
        """Rows lo..hi-1 of batch i; called by several threads at once."""
        raise TypeError(f"{type(self).__name__} makes no batches")

    def __getstate__(self) -> dict:
        """Everything but the threads and what they have prepared: those are only speed."""
        return {k: v for k, v in self.__dict__.items() if k not in _HIDDEN}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _pool=None, _ahead={}, _lock=threading.Lock())

    def batch(self, i: int, lo: int | None = None, hi: int | None = None) -> dict[str, np.ndarray]:
        """Batch i, or its rows lo..hi-1 (the share of one process).

        Args:
          i: the step, 0, 1, 2, …
          lo, hi: 0 <= lo < hi <= B; None for the whole batch.

        Returns:
          Arrays as in `element_spec`, with hi-lo rows.
        """
        lo, hi = 0 if lo is None else lo, self.batch_size if hi is None else hi
        if i < 0 or not 0 <= lo < hi <= self.batch_size:
            raise ValueError(f"batch({i}, {lo}, {hi}) of a batch of {self.batch_size}")
        if not self.prefetch:
            return self._make(i, lo, hi)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.prefetch, thread_name_prefix="genjax-data")
            keys = [(i + k, lo, hi) for k in range(self.prefetch + 1)]
            for key in [k for k in self._ahead if k[1:] == (lo, hi) and k not in keys]:
                self._ahead.pop(key).cancel()  # the loop jumped: what was prepared is not wanted any more
            for key in keys:
                if key not in self._ahead:
                    self._ahead[key] = self._pool.submit(self._make, *key)
            now = self._ahead.pop(keys[0])
        return now.result()
