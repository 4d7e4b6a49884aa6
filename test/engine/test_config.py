"""Settings that cannot work are refused with their name, value and reason."""

from __future__ import annotations

import dataclasses
import math

import pytest

from stream_vl_ros.engine import RunnerConfig, StreamConfig
from stream_vl_ros.errors import ConfigError, StreamVLError
from stream_vl_ros.ros.parameters import PARAMETERS, checked, runner_config, stream_config

BAD = [
    (StreamConfig, "chunk_frames", 0),
    (StreamConfig, "chunk_frames", -4),
    (StreamConfig, "target_fps", -0.1),
    (StreamConfig, "target_fps", 1000.1),
    (StreamConfig, "target_fps", math.nan),
    (StreamConfig, "target_fps", math.inf),
    (StreamConfig, "max_pixels", -1),
    (StreamConfig, "text_base", "hf5"),
    (StreamConfig, "initial_capacity", 0),
    (StreamConfig, "chunk_frames", 10**9),
    (StreamConfig, "chunk_frames", 2.0),
    (StreamConfig, "chunk_frames", True),
    (StreamConfig, "budget_tokens", 100.5),
    (StreamConfig, "sink_frames", "4"),
    (RunnerConfig, "flush_after", 0.0),
    (RunnerConfig, "flush_after", math.nan),
    (RunnerConfig, "queue_frames", 0),
    (RunnerConfig, "queue_policy", "drop_newest"),
    (RunnerConfig, "decode_share", 0.0),
    (RunnerConfig, "decode_share", 1.0),
    (RunnerConfig, "decode_share", math.nan),
    (RunnerConfig, "max_questions", 0),
]
GOOD = [
    (StreamConfig, "chunk_frames", 1),
    (StreamConfig, "chunk_frames", 1024),
    (StreamConfig, "target_fps", 0),
    (StreamConfig, "target_fps", 1000),
    (StreamConfig, "max_pixels", 1),
    (StreamConfig, "text_base", "transformers"),
    (RunnerConfig, "decode_share", 0.001),
    (RunnerConfig, "queue_policy", "block"),
]


@pytest.mark.parametrize(("config", "name", "value"), BAD)
def test_bad_values(config, name, value):
    with pytest.raises(ConfigError, match=rf"^{name}={value!r}: must") as raised:
        config(**{name: value})
    assert isinstance(raised.value, StreamVLError)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(("config", "name", "value"), GOOD)
def test_good_values(config, name, value):
    assert getattr(config(**{name: value}), name) == value


@pytest.mark.parametrize("config", [StreamConfig(), RunnerConfig()])
def test_settings_are_frozen(config):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, 1)


# --- the node's parameters ----------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_engine():
    values = checked({})
    assert stream_config(values) == StreamConfig()
    assert runner_config(values) == RunnerConfig()
    assert list(values) == [p.name for p in PARAMETERS]


NUMBERS = [p for p in PARAMETERS if isinstance(p.default, (int, float)) and not isinstance(p.default, bool)]


@pytest.mark.parametrize("parameter", NUMBERS, ids=lambda p: p.name)
def test_numbers_have_bounds(parameter):
    kind = type(parameter.default)
    assert parameter.low is not None
    assert parameter.high is not None
    for edge, beyond in ((parameter.low, parameter.low - 1), (parameter.high, parameter.high + 1)):
        assert parameter.check(kind(edge)) == edge
        with pytest.raises(ConfigError, match=f"parameter {parameter.name}=.*must be at"):
            parameter.check(kind(beyond))


@pytest.mark.parametrize("parameter", [p for p in NUMBERS if isinstance(p.default, float)], ids=lambda p: p.name)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_numbers(parameter, value):
    with pytest.raises(ConfigError, match=f"parameter {parameter.name}="):
        parameter.check(value)


@pytest.mark.parametrize("parameter", [pytest.param(p, id=p.name) for p in PARAMETERS if p.allowed])
def test_words_are_known_ones(parameter):
    assert parameter.default in parameter.allowed
    with pytest.raises(
        ConfigError, match=f"parameter {parameter.name}='nonsense': must be one of {parameter.allowed[0]}"
    ):
        checked({parameter.name: "nonsense"})


def test_every_allowed_value_works():
    for p in PARAMETERS:
        # A rule of forgetting needs to know of how much.
        others = {"budget_mib": 64.0} if p.name == "eviction" else {}
        for value in p.allowed or ((p.low, p.high) if p.low is not None else ()):
            values = checked({**others, p.name: type(p.default)(value)})
            stream_config(values)
            runner_config(values)


def test_every_parameter_is_described():
    assert all(p.description.endswith(".") for p in PARAMETERS)
    assert len({p.name for p in PARAMETERS}) == len(PARAMETERS)
