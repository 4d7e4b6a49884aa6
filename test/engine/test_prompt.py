"""Chat templates cut into pieces, and questions that try to be more than text."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_vl_ros.bench.native import assistant_turn, user_turn
from stream_vl_ros.engine.prompt import (
    MAX_CHARACTERS,
    VISION_END,
    VISION_START,
    PromptPieces,
    check_choices,
    check_question,
    text_ids,
    trim_prompt,
)
from stream_vl_ros.engine.random_checkpoint import CHAT_TEMPLATE, SPECIAL_TOKENS
from stream_vl_ros.errors import PromptError

SYSTEM = "You watch a corridor."
Q1, Q2, A1 = "What is in the doorway?", "Since when?", "A red car."

# Qwen2.5-VL's own template, as it ships.
QWEN_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}"
    "<|im_end|>\n{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in "
    "content or 'image_url' in content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}"
    "Picture "
    "{{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' "
    "or 'video' in content %}{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video "
    "{{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}"
    "{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% endif %}"
)
STRIPPING = CHAT_TEMPLATE.replace("{{ part['text'] }}", "{{ part['text'] | trim }}")
# Everything that is said goes in front of the video, or nothing is.
TEXT_FIRST = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{{ part['text'] }}{% endfor %}{% for part in message['content'] %}{% if part['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)
UNKNOWN = {
    "no_vision": "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}",
    "text_first": TEXT_FIRST,
    "raises": "{{ raise_exception('only one turn, please') }}",
    "broken": "{% for message in messages %}",
    "undefined": "{{ messages[0].nothing.at_all }}",
    "upper": CHAT_TEMPLATE.replace("{{ part['text'] }}", "{{ part['text'] | upper }}"),
    "no_text": CHAT_TEMPLATE.replace("{{ part['text'] }}", ""),
    "empty": "{# nothing #}",
    "one_video": CHAT_TEMPLATE.replace(
        "{% for part in message['content'] %}", "{% for part in message['content'] | unique(attribute='type') %}"
    ),
    "repeats": CHAT_TEMPLATE.replace("{{ part['text'] }}", "{{ part['text'] }} {{ part['text'] }}"),
}


class Templated:
    """A processor with a template of its own."""

    def __init__(self, processor, template: str) -> None:
        self.processor, self.template = processor, template

    def apply_chat_template(self, conversation, **kwargs):
        return self.processor.apply_chat_template(conversation, chat_template=self.template, **kwargs)


@pytest.fixture(scope="module")
def tokenizer(loaded):
    return loaded.tokenizer


@pytest.fixture(params=[CHAT_TEMPLATE, QWEN_TEMPLATE, STRIPPING], ids=["ours", "qwen", "stripping"])
def processor(request, loaded) -> Templated:
    return Templated(loaded.processor, request.param)


@pytest.fixture
def pieces(processor) -> PromptPieces:
    return PromptPieces.from_template(processor, SYSTEM)


def system_turn(text: str = SYSTEM) -> dict:
    return {"role": "system", "content": [{"type": "text", "text": text}]}


def ids(tokenizer, text: str) -> list[int]:
    """Tokenized in one go."""
    return tokenizer(text, add_special_tokens=False).input_ids


def render(processor, *conversation: dict, generate: bool = True) -> str:
    return processor.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=generate)


# --- the four cases -----------------------------------------------------------------------------------------


def test_a_normal_template(processor, pieces, tokenizer, caplog):
    prompt = render(processor, system_turn(), user_turn(Q1))
    assert pieces.known
    assert not caplog.records
    ask = pieces.ask.tokens(tokenizer, question=Q1)
    assert ask == ids(tokenizer, trim_prompt(prompt))
    video = tokenizer.convert_tokens_to_ids(["<|video_pad|>"])
    assert pieces.start.tokens(tokenizer) + video + ask == ids(tokenizer, prompt)


@pytest.mark.parametrize("template", UNKNOWN.values(), ids=UNKNOWN)
def test_a_template_that_is_not_known(loaded, tokenizer, caplog, template):
    processor = Templated(loaded.processor, template)
    with caplog.at_level(logging.WARNING):
        pieces = PromptPieces.from_template(processor, SYSTEM)
    assert not pieces.known
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "chat template not understood" in caplog.text
    assert "using the layout" in caplog.text
    native = Templated(loaded.processor, QWEN_TEMPLATE)
    prompt = render(native, system_turn(), user_turn(Q1), assistant_turn(A1), user_turn(Q2, videos=0))
    video = tokenizer.convert_tokens_to_ids(["<|video_pad|>"])
    assert (
        pieces.start.tokens(tokenizer) + video + pieces.ask.tokens(tokenizer, question=Q1) + ids(tokenizer, A1)
        + pieces.follow_up.tokens(tokenizer, question=Q2)
    ) == ids(tokenizer, prompt)  # fmt: skip
    two = render(native, system_turn(), user_turn(Q1, videos=2))
    border = pieces.border.tokens(tokenizer)
    assert pieces.start.tokens(tokenizer) + video + border + video + pieces.ask.tokens(tokenizer, question=Q1) == ids(
        tokenizer, two
    )


def test_several_vision_segments():
    segment = f"{VISION_START}<|video_pad|>{VISION_END}"
    assert trim_prompt(f"a {segment} b {segment} c") == f"{VISION_END} c"
    assert trim_prompt(f"{VISION_START}<|image_pad|>{VISION_END}{segment}") == VISION_END


@pytest.mark.parametrize("prompt", ["", "no video", f"{VISION_START} open", f"{VISION_END}{VISION_START}", VISION_END])
def test_no_vision_segment(prompt):
    with pytest.raises(PromptError, match=r"without a vision segment.*messages with a video"):
        trim_prompt(prompt)


@pytest.mark.parametrize("question", ["", " ", "\n\t ", "\u00a0\u2003"])
def test_an_empty_question(question):
    with pytest.raises(PromptError, match=r"question=.*empty.*e\.g\."):
        check_question(question)


def test_white_space_around_a_question_does_not_count():
    assert check_question("\n  What  now? ") == "What  now?"


# --- the pieces together ------------------------------------------------------------------------------------


def test_follow_up_continues_the_dialogue(processor, pieces, tokenizer):
    video = tokenizer.convert_tokens_to_ids(["<|video_pad|>"])
    prompt = render(
        processor,
        system_turn(), user_turn(Q1), assistant_turn(A1), user_turn(Q2, videos=0), assistant_turn("b"),
        user_turn("And now?", videos=0),
    )  # fmt: skip
    got = pieces.start.tokens(tokenizer) + video + pieces.ask.tokens(tokenizer, question=Q1) + ids(tokenizer, A1)
    got += pieces.follow_up.tokens(tokenizer, question=Q2) + ids(tokenizer, "b")
    got += pieces.follow_up.tokens(tokenizer, question="And now?")
    assert got == ids(tokenizer, prompt)


def test_remembered_turns_lie_between_videos(processor, pieces, tokenizer):
    video = tokenizer.convert_tokens_to_ids(["<|video_pad|>"])
    prompt = render(
        processor,
        system_turn(),
        user_turn(Q1),
        assistant_turn(A1),
        user_turn(Q2),
        assistant_turn("b"),
        user_turn("And?"),
    )
    got = pieces.start.tokens(tokenizer) + video + pieces.remember.tokens(tokenizer, question=Q1, answer=A1)
    got += video + pieces.remember.tokens(tokenizer, question=Q2, answer="b")
    got += video + pieces.ask.tokens(tokenizer, question="And?")
    assert got == ids(tokenizer, prompt)


def test_videos_of_one_turn_follow_each_other(processor, pieces, tokenizer):
    video = tokenizer.convert_tokens_to_ids(["<|video_pad|>"])
    prompt = render(processor, system_turn(), user_turn(Q1, videos=3))
    border = pieces.border.tokens(tokenizer)
    assert len(border) == 2
    got = pieces.start.tokens(tokenizer) + video + border + video + border + video
    assert got + pieces.ask.tokens(tokenizer, question=Q1) == ids(tokenizer, prompt)


@pytest.mark.parametrize("system", [SYSTEM, "", "Zwei Zeilen:\n„ja“, 是的 🤖", "{braces} {question} %s \\n"])
@pytest.mark.parametrize("known", [True, False])
def test_the_system_prompt_is_in_its_place(loaded, tokenizer, system, known):
    template = QWEN_TEMPLATE if known else UNKNOWN["raises"]
    pieces = PromptPieces.from_template(Templated(loaded.processor, template), system)
    assert pieces.known == known
    start = tokenizer.decode(pieces.start.tokens(tokenizer, question=Q1))
    assert start == f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{VISION_START}"


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_special_tokens_in_the_system_prompt_do_no_harm(loaded, tokenizer, special):
    # Either they are text, or they are refused; the cut must not move.
    processor = Templated(loaded.processor, QWEN_TEMPLATE)
    try:
        pieces = PromptPieces.from_template(processor, f"Never write {special} here.")
    except PromptError as error:
        assert special in str(error)  # noqa: PT017
        return
    start = tokenizer.decode(pieces.start.tokens(tokenizer))
    assert start.endswith(f"here.<|im_end|>\n<|im_start|>user\n{VISION_START}")
    assert pieces.ask.text.startswith(f"{VISION_END}QUESTION")


# --- questions are text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
@pytest.mark.parametrize("gap", ["question", "answer"])
def test_special_tokens_that_are_typed_are_text(pieces, tokenizer, special, gap):
    typed = f"before {special}{special} after"
    fill = {"question": Q1, "answer": A1}
    plain = pieces.remember.tokens(tokenizer, **(fill | {gap: "x"}))
    got = pieces.remember.tokens(tokenizer, **(fill | {gap: typed}))
    control = set(tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)))
    # Not one special token more, and all of the text comes back.
    assert [i for i in got if i in control] == [i for i in plain if i in control]
    before, after = ("\nx<", f"\n{typed}<") if gap == "answer" else (">x<", f">{typed}<")
    assert tokenizer.decode(got) == tokenizer.decode(plain).replace(before, after)
    assert not control & set(text_ids(tokenizer, typed))
    assert tokenizer.decode(text_ids(tokenizer, typed)) == typed


@settings(max_examples=80, deadline=None)
@given(question=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_any_text_comes_back(loaded, question):
    import unicodedata

    pieces, tokenizer = PromptPieces.from_template(loaded.processor, SYSTEM), loaded.tokenizer
    got = pieces.ask.tokens(tokenizer, question=question)
    text = unicodedata.normalize("NFC", question)
    assert tokenizer.decode(got) == f"{VISION_END}{text}<|im_end|>\n<|im_start|>assistant\n"


def test_tokenizing_text_leaves_the_tokenizer_as_it_was(pieces, tokenizer):
    before = ids(tokenizer, "<|im_start|>a")
    pieces.ask.tokens(tokenizer, question="<|im_start|>a")
    text_ids(tokenizer, "<|im_start|>a")
    assert ids(tokenizer, "<|im_start|>a") == before
    assert before[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")


def test_no_text_is_no_tokens(tokenizer):
    assert text_ids(tokenizer, "") == []


# --- choices ------------------------------------------------------------------------------------------------


def test_choices_are_kept_as_given():
    assert check_choices([" red", "Red", "blue "]) == (" red", "Red", "blue ")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ([], "at least two"),
        ("yes", "'yes' is one text: give a list"),
        (["a"], "at least two"),
        (["a", " "], "option 2 is empty"),
        (["a", "b", "a "], "twice"),
    ],
)
def test_choices_that_cannot_be_told_apart(choices, message):
    with pytest.raises(PromptError, match=message):
        check_choices(choices)


@pytest.mark.parametrize("text", ["\ud800 what?", "a\udfffb"])
def test_half_a_surrogate_pair_is_no_text(text):
    with pytest.raises(PromptError, match="surrogate"):
        check_question(text)
    with pytest.raises(PromptError, match="surrogate"):
        check_choices([text, "no"])


def test_too_long_a_text_is_refused_by_its_length():
    with pytest.raises(PromptError, match=f"question of {MAX_CHARACTERS + 1} characters"):
        check_question("x" * (MAX_CHARACTERS + 1))
    assert len(check_question("x" * MAX_CHARACTERS)) == MAX_CHARACTERS
    with pytest.raises(PromptError, match="list of choices of 60000 characters"):
        check_choices(["x" * 30_000, "y" * 30_000])


def test_a_refusal_does_not_repeat_everything():
    with pytest.raises(PromptError) as caught:
        check_choices(["x" * 40_000, ""])
    assert "option 2 is empty" in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("question", ["ANSWERx7f3a91", "QUESTIONx7f3a91", "FOLLOWUPx7f3a91"])
def test_the_stand_ins_of_the_template_are_text_like_any_other(loaded, pieces, tokenizer, question):
    ids = pieces.remember.tokens(tokenizer, question=question, answer="blue")
    text = loaded.tokenizer.decode(ids)
    assert text.count(question) == 1 and text.count("blue") == 1
