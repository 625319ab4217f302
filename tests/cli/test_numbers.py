"""What the options of the command take for numbers."""

import click
import pytest

from gzmqsource._base.deadline import LONGEST
from gzmqsource.cli import _pipes, _send, _serve, _top
from gzmqsource.cli._numbers import Number, Seconds

#: Every option that takes a number that need not be whole.
OPTIONS = [
    (command, option)
    for module in (_pipes, _send, _serve, _top)
    for command in vars(module).values()
    if isinstance(command, click.Command)
    for option in command.params
    if isinstance(option.type, click.types.FloatParamType)
]


@pytest.mark.parametrize(
    "option",
    [option for _, option in OPTIONS],
    ids=[f"{command.name} {option.name}" for command, option in OPTIONS],
)
def test_what_is_no_number_is_refused(option):
    # Without a call: that of `serve` would patch this process.
    with pytest.raises(click.BadParameter, match="'nan' is not a number"):
        option.type.convert("nan", option, None)


@pytest.mark.parametrize("value", ["inf", "1e300", "1e7"])
def test_a_time_without_an_end_is_the_longest(value):
    assert Seconds(0).convert(value, None, None) == LONGEST


def test_times_and_numbers_are_passed_on():
    assert Seconds(0).convert("0.5", None, None) == 0.5
    assert Number(0).convert("1e300", None, None) == 1e300
