"""What the options of the command take for numbers."""

import click
import pytest
from click.testing import CliRunner

from gzmqsource._base.deadline import LONGEST
from gzmqsource.cli import _pipes, _serve, _top
from gzmqsource.cli._numbers import Number, Seconds

#: Every option that takes a number that need not be whole.
OPTIONS = [
    (command, option)
    for module in (_pipes, _serve, _top)
    for command in vars(module).values()
    if isinstance(command, click.Command)
    for option in command.params
    if isinstance(option.type, click.types.FloatParamType)
]


@pytest.mark.parametrize(
    ("command", "option"), OPTIONS, ids=[f"{c.name} {o.name}" for c, o in OPTIONS]
)
def test_what_is_no_number_is_refused_by_the_name_of_the_option(command, option):
    needed = ["x"] * sum(isinstance(each, click.Argument) for each in command.params)
    result = CliRunner().invoke(command, [*needed, option.opts[0], "nan"])
    assert result.exit_code == 2
    assert f"Invalid value for '{option.opts[0]}': 'nan' is not a number" in result.output


@pytest.mark.parametrize("value", ["inf", "1e300", "1e7"])
def test_a_time_without_an_end_is_the_longest(value):
    assert Seconds(0).convert(value, None, None) == LONGEST


def test_times_and_numbers_are_passed_on():
    assert Seconds(0).convert("0.5", None, None) == 0.5
    assert Number(0).convert("1e300", None, None) == 1e300
