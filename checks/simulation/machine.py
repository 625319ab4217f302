"""The worlds as state machines, whose schedules hypothesis searches."""

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test


def machine_of(world_class):
    """Make a state machine of a world: each of its actions is a rule."""

    @initialize(**_strategies(world_class.options))
    def begin(self, **options):
        self.world = world_class(**options)

    def teardown(self):
        world, self.world = self.world, None
        try:
            world.finish()
        except BaseException:
            world.abandon()
            raise

    members = {"begin": begin, "teardown": teardown, "world": None}
    for action in world_class.actions():
        members[action.__name__] = rule(**_strategies(action.ranges))(_step(action))
    return type(f"{world_class.__name__}Machine", (RuleBasedStateMachine,), members)


def search(world_class, examples, with_seed):
    """Search for a schedule that breaks an invariant; raises with the shortest one in the text."""
    machine = seed(with_seed)(machine_of(world_class))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def _strategies(ranges):
    return {name: st.sampled_from(list(values)) for name, values in ranges.items()}


def _step(action):
    def step(self, **arguments):
        action(self.world, **arguments)

    step.__name__ = action.__name__
    return step
