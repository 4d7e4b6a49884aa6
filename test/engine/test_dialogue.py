"""Histories: bounded, by id, whole turns."""

from __future__ import annotations

import threading

import pytest

from stream_vl_ros.engine import DialogueConfig, Turn
from stream_vl_ros.engine.dialogue import Dialogues
from stream_vl_ros.errors import ConfigError


def make(**bounds: int) -> Dialogues:
    return Dialogues(lambda text: len(text.split()), DialogueConfig(**bounds))


def turn(i: int, words: int = 1) -> Turn:
    return Turn(f"q{i} " * words, f"a{i}")


def test_turns_come_back_in_order():
    dialogues = make()
    for i in range(3):
        dialogues.append("one", turn(i))
    dialogues.append("two", turn(9))
    assert dialogues.history("one") == (turn(0), turn(1), turn(2))
    assert dialogues.history("two") == (turn(9),)
    assert dialogues.history("three") == ()


def test_the_oldest_turns_go_first():
    dialogues = make(turns=2)
    for i in range(5):
        dialogues.append("one", turn(i))
    assert dialogues.history("one") == (turn(3), turn(4))


def test_turns_go_whole_when_their_tokens_are_too_many():
    dialogues = make(tokens=10)
    for i in range(3):
        dialogues.append("one", turn(i, words=3))  # 4 tokens each
    assert dialogues.history("one") == (turn(1, 3), turn(2, 3))
    dialogues.append("one", turn(3, words=50))
    assert dialogues.history("one") == ()


def test_the_dialogue_that_was_used_least_recently_goes():
    dialogues = make(dialogues=2)
    dialogues.append("one", turn(1))
    dialogues.append("two", turn(2))
    dialogues.history("one")
    dialogues.append("three", turn(3))
    assert [bool(dialogues.history(n)) for n in ("one", "two", "three")] == [True, False, True]


def test_forgetting():
    dialogues = make()
    dialogues.append("one", turn(1))
    assert dialogues.forget("one")
    assert not dialogues.forget("one")
    dialogues.append("two", turn(1))
    dialogues.clear()
    assert len(dialogues) == 0


def test_from_many_threads():
    dialogues = make(turns=5, dialogues=3)

    def work(name: int) -> None:
        for i in range(300):
            dialogues.append(str(name), turn(i))
            assert len(dialogues.history(str((name + 1) % 6))) <= 5

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(dialogues) == 3


@pytest.mark.parametrize("field", ["dialogues", "turns", "tokens"])
def test_bounds_are_checked(field):
    with pytest.raises(ConfigError, match=f"{field}=0"):
        DialogueConfig(**{field: 0})
