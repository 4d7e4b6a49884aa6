"""Chat templates cut into the pieces that a stream needs.

A stream is one growing video in one user turn; its beginning is encoded once and never again. What remains to be
encoded per question is the end of the prompt, after the video. `trim_prompt` cuts a rendered prompt there, and
`PromptPieces` holds the cuts of a checkpoint's own chat template as token ids.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stream_vl_ros.brief import shown
from stream_vl_ros.errors import PromptError

log = logging.getLogger(__name__)

# One question must not hold up the video for long: it is read in one go.
MAX_CHOICES = 64
MAX_TOKENS = 2048
# Nor by being turned into tokens: a text of a million characters takes seconds. No tokenizer puts as many as this into
# `MAX_TOKENS` of text that people write.
MAX_CHARACTERS = 50_000

VISION_START = "<|vision_start|>"
VISION_END = "<|vision_end|>"

# Stand-ins for what is not known yet. Letters and digits, because templates strip white space around contents.
_QUESTION = "QUESTIONx7f3a91"
_ANSWER = "ANSWERx7f3a91"
_FOLLOW_UP = "FOLLOWUPx7f3a91"

# The layout that all Qwen2-VL and Qwen2.5-VL checkpoints were trained with.
_FALLBACK = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<|vision_start|>",
    "<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n",
    "<|vision_end|>{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n<|im_start|>user\n<|vision_start|>",
    "<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n",
    "<|vision_end|><|vision_start|>",
)

_SPECIAL = re.compile(r"<\|[a-z0-9_]+\|>")
_GAPS = {_QUESTION: "question", _ANSWER: "answer"}
_GAP = re.compile("|".join(_GAPS))


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    def __call__(self, text: str, *, add_special_tokens: bool, split_special_tokens: bool) -> Any: ...


class Templater(Protocol):
    """What is used of a transformers processor."""

    def apply_chat_template(self, conversation: list[dict[str, Any]], **kwargs: Any) -> str: ...


def trim_prompt(prompt: str) -> str:
    """The part of a rendered prompt that comes after its last vision segment, from its ``<|vision_end|>`` on.

    This is what has to be encoded on top of a cache that already holds everything before.

    Raises `PromptError` if the prompt holds no vision segment.
    """
    cut = prompt.rfind(VISION_END)
    if cut < 0 or VISION_START not in prompt[:cut]:
        raise PromptError(
            f"prompt without a vision segment ({VISION_START} ... {VISION_END}): {prompt[:80]!r}; "
            "render it from messages with a video in them"
        )
    return prompt[cut:]


def check_question(question: str) -> str:
    """The question without white space around it. Raises `PromptError` if nothing is left, or too much to be read."""
    check_text(question, "question")
    stripped = question.strip()
    if not stripped:
        raise PromptError(f"question={shown(question)}: it is empty; ask something, e.g. 'What is visible now?'")
    return stripped


def check_text(text: str, what: str) -> None:
    """Raise `PromptError` for a text that no tokenizer takes, or that is too long to be given to one."""
    if len(text) > MAX_CHARACTERS:
        raise PromptError(f"{what} of {len(text)} characters: at most {MAX_CHARACTERS} can be read; shorten it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{what}={shown(text)}: holds half a surrogate pair, which is no text; leave it out"
        ) from error


def check_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """The options as given.

    Raises `PromptError` if there are fewer than two, more than `MAX_CHOICES`, an empty one, two equal ones, or too much
    to be read.
    """
    if isinstance(choices, str):
        raise PromptError(f"choices={shown(choices, 400)} is one text: give a list of them")
    options = tuple(choices)
    if len(options) > MAX_CHOICES:
        raise PromptError(f"{len(options)} choices: at most {MAX_CHOICES} can be scored at once; ask in two rounds")
    check_text("".join(options), "the list of choices")
    named = f"choices={shown(list(options), 400)}"
    if len(options) < 2:
        raise PromptError(f"{named}: give at least two, or none for a free answer")
    stripped = [o.strip() for o in options]
    if "" in stripped:
        raise PromptError(f"{named}: option {stripped.index('') + 1} is empty")
    if len(set(stripped)) < len(stripped):
        raise PromptError(f"{named}: the same option is there twice")
    return options


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a prompt with a gap for text: special tokens before and after, contents in between.

    `text` holds the stand-ins of the gaps; `tokens` fills them and turns the whole into ids.
    """

    text: str

    def tokens(self, tokenizer: Tokenizer, **fill: str) -> list[int]:
        """Token ids with the gaps filled. Special tokens inside of what is filled in become plain text."""
        return _join(tokenizer, self.stretches(**fill))

    def stretches(self, **fill: str) -> list[tuple[str, bool]]:
        """The text with its gaps filled, cut at the template's own special tokens: (text, whether it is one)."""
        cut: list[tuple[str, bool]] = []
        end = 0
        for match in _SPECIAL.finditer(self.text):
            cut += [(_filled(self.text[end : match.start()], fill), False), (match.group(), True)]
            end = match.end()
        return [*cut, (_filled(self.text[end:], fill), False)]


@dataclass(frozen=True, slots=True)
class PromptPieces:
    """A chat template cut at the borders of its video.

    Attributes:
        start: everything up to and including ``<|vision_start|>``.
        ask: from ``<|vision_end|>`` through the question to the beginning of the answer.
        remember: from ``<|vision_end|>`` through question and answer to the ``<|vision_start|>`` of more video.
        follow_up: from the end of an answer through another question to the beginning of its answer.
        border: from the ``<|vision_end|>`` of a video to the ``<|vision_start|>`` of another one in the same turn.
        known: False if the template could not be cut and Qwen's layout is used in its place.
    """

    start: Piece
    ask: Piece
    remember: Piece
    follow_up: Piece
    border: Piece
    known: bool

    @property
    def turn(self) -> Piece:
        """The beginning of `remember`, through the answer; what ends the turn is not part of it."""
        return Piece(self.remember.text[: self.remember.text.index(_ANSWER) + len(_ANSWER)])

    @property
    def reopen(self) -> Piece:
        """The rest of `remember`: from the end of the answer to the ``<|vision_start|>`` of more video."""
        return Piece(self.remember.text[len(self.turn.text) :])

    @property
    def follow_up_turn(self) -> Piece:
        """`follow_up` and the answer to it."""
        return Piece(self.follow_up.text + _ANSWER)

    @staticmethod
    def from_template(processor: Templater, system_prompt: str) -> PromptPieces:
        """Cut the chat template of a checkpoint; a template of unknown shape gives Qwen's layout and a warning.

        Raises `PromptError` for a system prompt with special tokens in it.
        """
        if special := _SPECIAL.search(system_prompt):
            raise PromptError(
                f"system_prompt={system_prompt!r}: holds the special token {special.group()}; leave it out"
            )
        try:
            return _cut(processor, system_prompt)
        except Exception as error:  # a Jinja template can fail in any way; each of them means the same here
            log.warning(
                "chat template not understood (%s: %s); using the layout that Qwen-VL checkpoints were trained with",
                type(error).__name__,
                error,
            )
            start, ask, remember, follow_up, border = (
                Piece(
                    t.replace("{question}", _QUESTION).replace("{answer}", _ANSWER).replace("{system}", system_prompt)
                )
                for t in _FALLBACK
            )
            return PromptPieces(start, ask, remember, follow_up, border, known=False)


def _cut(processor: Templater, system_prompt: str) -> PromptPieces:
    first = _turn("system", _text(system_prompt)), _turn("user", _video(), _text(_QUESTION))
    answer = _turn("assistant", _text(_ANSWER))
    one = _render(processor, [*first], generate=True)
    two_videos = _render(processor, [*first, answer, _turn("user", _video(), _text(_FOLLOW_UP))], generate=True)
    two_turns = _render(processor, [*first, answer, _turn("user", _text(_FOLLOW_UP))], generate=True)
    one_turn = _render(processor, [first[0], _turn("user", _video(), _video(), _text(_QUESTION))], generate=True)

    start = one[: one.index(VISION_START) + len(VISION_START)]
    ask = trim_prompt(one)
    if ask.count(_QUESTION) != 1:
        raise PromptError(f"the question does not follow the video in {one!r}")
    second_start = two_videos.rindex(VISION_START) + len(VISION_START)
    remember = two_videos[two_videos.index(VISION_END) : second_start]
    follow_up = two_turns[two_turns.index(_ANSWER) + len(_ANSWER) :].replace(_FOLLOW_UP, _QUESTION)
    if remember.count(_QUESTION) != 1 or remember.count(_ANSWER) != 1 or follow_up.count(_QUESTION) != 1:
        raise PromptError(f"question and answer are not where they are expected in {two_videos!r}")
    border = one_turn[one_turn.index(VISION_END) : one_turn.rindex(VISION_START) + len(VISION_START)]
    if one_turn != start + one_turn[len(start) : one_turn.index(VISION_END)] + border + one[len(start) :]:
        raise PromptError(f"two videos in one turn are not what one is, twice: {one_turn!r}")
    return PromptPieces(Piece(start), Piece(ask), Piece(remember), Piece(follow_up), Piece(border), known=True)


def _turn(role: str, *content: dict[str, str]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _video() -> dict[str, str]:
    return {"type": "video", "video": "video.mp4"}


def _render(processor: Templater, conversation: list[dict[str, Any]], *, generate: bool) -> str:
    return processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=generate)


def _filled(text: str, fill: dict[str, str]) -> str:
    # In one pass: what is filled in may hold a stand-in itself.
    return _GAP.sub(lambda gap: fill.get(_GAPS[gap.group()], gap.group()), text)


def _join(tokenizer: Tokenizer, stretches: Sequence[tuple[str, bool]]) -> list[int]:
    """Ids of the whole text: special tokens split it for the tokenizer; all between two of them is tokenized as one."""
    ids: list[int] = []
    plain = ""
    for text, special in [*stretches, ("", True)]:
        if not special:
            plain += text
            continue
        ids += _ids(tokenizer, plain, split=True) + _ids(tokenizer, text, split=False)
        plain = ""
    return ids


def dialogue_ids(
    tokenizer: Tokenizer, first: Piece, follow_up: Piece, history: Sequence[tuple[str, str]], question: str
) -> list[int]:
    """Token ids of earlier turns (question, answer) and a question that follows them, each as plain text.

    `first` asks the first question of all, `follow_up` every other one.
    """
    stretches: list[tuple[str, bool]] = []
    piece = first
    for asked, answered in history:
        stretches += [*piece.stretches(question=asked), (answered.strip(), False)]
        piece = follow_up
    return _join(tokenizer, [*stretches, *piece.stretches(question=question)])


_ONE_AT_A_TIME = threading.Lock()


def _ids(tokenizer: Tokenizer, text: str, *, split: bool) -> list[int]:
    if not text:
        return []
    # transformers keeps `split_special_tokens` on the tokenizer, which memories are saved and loaded with elsewhere.
    with _ONE_AT_A_TIME:
        ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=split).input_ids
    return ids


def text_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of plain text; special tokens in it are treated as text."""
    return _ids(tokenizer, text, split=True)


def check_length(ids: Sequence[int], what: str) -> None:
    """Raise `PromptError` for a question or an option that is too long to be read in one go."""
    if len(ids) > MAX_TOKENS:
        raise PromptError(f"{what} has {len(ids)} tokens: at most {MAX_TOKENS} can be read at once; shorten it")
