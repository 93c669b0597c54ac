"""How many steps a call to the device may hold, so that a signal is answered in time where steps are slow."""

from genjax.core import distributed

SECONDS = 4.0  # of one call; the next is in flight meanwhile, so a signal waits for at most two, and for the checkpoint


class Pace:
    """The longest call, in steps: `steps_per_call`, or fewer where that many take longer than SECONDS.

    The first call after `restart` is of one step and compiles, the second, of one step too, is timed. The same compiled
    program runs calls of any length (`genjax.core.experiment.Programs`): the bits do not depend on it.

    Args:
      calls: steps per call where they are fast.
    """

    def __init__(self, calls: int):
        self.calls = calls
        self.restart()

    def restart(self) -> None:
        """Another program follows, as where batches change shape."""
        self._untimed, self._most = 2 if self.calls > 1 else 1, 1

    @property
    def timed(self) -> bool:
        """Whether the time of the next call is asked for (`took`): it holds one step."""
        return self._untimed > 0

    @property
    def compiles(self) -> bool:
        """Whether the next call is the first."""
        return self.timed and self._untimed == (2 if self.calls > 1 else 1)

    def most(self) -> int:
        """Steps of the next call, at most."""
        return 1 if self.timed else self._most

    def took(self, seconds: float) -> None:
        """A timed call took so long; with several processes, process 0's time counts for all."""
        self._untimed -= 1
        if not self._untimed and self.calls > 1:
            self._most = distributed.from_main(lambda: max(1, min(self.calls, int(SECONDS / max(seconds, 1e-9)))))
