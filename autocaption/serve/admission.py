"""How many requests are in work at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from autocaption.serve.refusals import RequestError


class Admission:
    """A bounded number of places; a request takes one before it is read, and holds it until it is answered.

    So memory is bounded by the places times what an upload may cost.

    Args:
        places: how many there are.
    """

    def __init__(self, places: int) -> None:
        self.places, self.taken = places, 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for the time of the block.

        Raises:
            RequestError: all are taken.
        """
        if self.taken >= self.places:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "busy",
                "Too many pictures are waiting. Try again in a moment.",
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
