"""What is sent through dask.distributed, which shows and logs the arguments of its tasks."""


class Sealed:
    """Bytes that show neither in a log nor in a dashboard.

    Attributes:
        content: the bytes.
        words: what is shown instead.
    """

    __slots__ = ("content", "words")

    def __init__(self, content: bytes, words: str) -> None:
        self.content, self.words = content, words

    def __repr__(self) -> str:
        return f"<{self.words}>"

    def __getstate__(self) -> tuple[bytes, str]:
        return self.content, self.words

    def __setstate__(self, state: tuple[bytes, str]) -> None:
        self.content, self.words = state
