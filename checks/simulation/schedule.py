"""Schedules: drawn at random, carried out, made shorter, and written down as tests."""

import random
from dataclasses import dataclass


@dataclass
class Schedule:
    """A world, and the steps that are carried out in it: each a name and its arguments."""

    world: type
    options: dict
    steps: list

    #: The most steps of one that is drawn.
    longest = 40

    @classmethod
    def draw(cls, world, seed):
        """Draw one; the same for the same seed."""
        chance = random.Random(seed)
        actions = world.actions()
        steps = chance.choices(
            actions, [each.weight for each in actions], k=chance.randint(1, cls.longest)
        )
        return cls(
            world,
            _draw(chance, world.options),
            [(step.__name__, _draw(chance, step.ranges)) for step in steps],
        )

    def run(self):
        """Carry it out; give what went wrong, or None."""
        world = None
        try:
            world = self.world(**self.options)
            for name, arguments in self.steps:
                getattr(world, name)(**arguments)
            world.finish()
        except Exception as error:
            if world is not None:
                world.abandon()
            return error
        return None

    def shorter(self):
        """Give the shortest one, by leaving out steps, with which something goes wrong."""
        schedule, size = self, len(self.steps) // 2
        while size:
            for start in range(0, len(schedule.steps), size):
                steps = schedule.steps[:start] + schedule.steps[start + size :]
                fewer = Schedule(self.world, self.options, steps)
                if fewer.run() is not None:
                    schedule = fewer
                    break
            else:
                size //= 2
        return schedule

    def as_test(self):
        """Write it down as a test."""
        lines = [f"world = {self.world.__name__}({_written(self.options)})"]
        lines += [f"world.{name}({_written(arguments)})" for name, arguments in self.steps]
        lines += ["world.finish()"]
        return "def test_found():\n" + "".join(f"    {line}\n" for line in lines)


def _draw(chance, ranges):
    return {name: chance.choice(list(values)) for name, values in ranges.items()}


def _written(arguments):
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
