"""A fork: the place where questions are asked, off to the side of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stream_vl_ros.engine.adapters import ModelAdapter
from stream_vl_ros.engine.answer import Moment
from stream_vl_ros.engine.cache import KVCache
from stream_vl_ros.engine.next_tokens import NextTokens
from stream_vl_ros.engine.positions import text_positions
from stream_vl_ros.engine.prompt import Piece


@dataclass(slots=True)
class Fork:
    """A private continuation of a stream: its own tokens on top of a shared, unchanging prefix.

    Use it on the thread that owns the stream, and `close` it (or use `with`) to free its memory.

    >>> from stream_vl_ros.demo.scene import demo_clip
    >>> from stream_vl_ros.engine import VideoStream, load_model
    >>> stream = VideoStream(load_model("embedded", device="cpu"))
    >>> chunks = stream.append(*demo_clip(end=3.0))
    >>> before = stream.signature()
    >>> tokenizer = stream.model.tokenizer
    >>> with stream.fork() as fork:
    ...     scores = fork.feed(fork.ask.tokens(tokenizer, question="What is visible now?"))
    ...     with fork.fork() as deeper:  # shares the video and the question
    ...         next_scores = deeper.feed([int(scores.argmax())])
    ...     print(tokenizer.decode([int(scores.argmax()), int(next_scores.argmax())]))
    a red
    >>> stream.signature() == before
    True

    Attributes:
        moment: what of the video it sees.
        cache: its KV cache; the stream's tokens in it are shared, not copied.
        position: M-RoPE position of the next text token, the same on all three axes.
        ask: the piece of prompt that asks a question here.
        follow_up: the piece that asks another one after an answer.
        closed: whether it was given up.
    """

    adapter: ModelAdapter
    moment: Moment
    cache: KVCache
    position: int
    ask: Piece
    follow_up: Piece
    closed: bool = False

    def __enter__(self) -> Fork:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @torch.inference_mode()
    def feed(self, ids: Sequence[int]) -> Tensor:
        """Append text tokens. Returns the logits after the last one, float32 of shape (vocabulary,)."""
        self._check_open()
        logits = self.adapter.read_text([list(ids)], [self.position], self.cache)
        self.position += len(ids)
        return logits[0]

    @torch.inference_mode()
    def write(self, token: int, *, more: bool) -> NextTokens:
        """Append a token of an answer. Returns what may follow it, of one row; `more` as in `ModelAdapter.write`."""
        self._check_open()
        found = self.adapter.write([token], [self.position], self.cache, more=more)
        self.position += 1
        return found

    @torch.inference_mode()
    def score(self, logits: Tensor, options: Sequence[Sequence[int]]) -> list[Tensor]:
        """Log-probabilities of whole continuations, all in one batch that shares this fork's tokens.

        The fork itself does not change.

        Args:
            logits: what the last `feed` returned.
            options: token ids of each continuation, at least one each.

        Returns:
            Per option its tokens' log-probabilities in nats, float32 on the CPU, of shape (len(option),).
        """
        self._check_open()
        first = torch.log_softmax(logits, dim=-1)
        longest = max(len(o) for o in options)
        if longest == 1:
            return [first[torch.tensor(list(o), device=first.device)].cpu() for o in options]
        # Padding goes to the right: nothing that counts can see it under the causal mask.
        padded = [[*o[:-1], *([0] * (longest - len(o)))] for o in options]
        ids = torch.tensor(padded, device=self.adapter.device)
        branch = self.cache.fork(rows=len(options), initial_capacity=longest)
        hidden = self.adapter.forward(self.adapter.embed_text(ids), text_positions(self.position, longest - 1), branch)
        later = torch.log_softmax(self.adapter.logits(hidden), dim=-1)
        branch.discard()
        scores = []
        for row, option in enumerate(options):
            rest = torch.tensor(list(option[1:]), device=later.device, dtype=torch.int64)
            steps = later[row, : len(option) - 1].gather(1, rest[:, None])[:, 0]
            scores.append(torch.cat((first[option[0]][None], steps)).cpu())
        return scores

    def fork(self) -> Fork:
        """Another fork that starts with everything in this one."""
        self._check_open()
        return Fork(self.adapter, self.moment, self.cache.fork(), self.position, self.ask, self.follow_up)

    def close(self) -> None:
        """Free the fork's own memory and let go of the stream's. It cannot be used afterwards."""
        self.closed = True
        self.cache.discard()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("this fork was closed; take a new one from the stream")
