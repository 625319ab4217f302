"""Lines of ``serve --workers`` that are broken."""

from mutants.mutation import Mutation

WORKERS, STUCK = "cli/test_serve_workers.py", "cli/test_serve_stuck.py"
ATTACKS = "cli/test_fleet_attacks.py"

FLEET = [
    Mutation(
        "a terminal stops a master that writes from its background",
        "cli/_stderr.py",
        "        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})\n",
        "        mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())\n",
        f"{ATTACKS}::test_a_master_in_the_background_of_a_terminal_writes_its_log_and_ends",
    ),
    Mutation(
        "the folder of a master that is killed stays",
        "cli/_fleet/tether.py",
        "            os.rmdir(os.path.dirname(self._back))\n",
        "",
        f"{ATTACKS}::test_nothing_is_left_of_the_folder_of_a_master_that_is_killed",
    ),
    Mutation(
        "a fork of a worker speaks for it",
        "cli/_fleet/tether.py",
        "        os.register_at_fork(after_in_child=self._let_go)\n",
        "",
        f"{ATTACKS}::test_a_stuck_worker_is_replaced_although_its_fork_runs",
    ),
    Mutation(
        "a log that nobody reads holds up the server",
        "cli/_stderr.py",
        "        while left and self._ready.poll(0):\n",
        "        while left:\n",
        f"{ATTACKS}::test_a_log_that_nobody_reads_holds_up_no_server",
    ),
    Mutation(
        "a worker whose hub is stuck stays",
        "cli/_fleet/worker.py",
        "        if self._silent is not None and self._silent >= self._stuck_after:\n",
        "        if False:\n",
        f"{STUCK}::test_a_worker_that_is_stopped_is_replaced",
    ),
    Mutation(
        "a stuck worker is killed before it has told its stack",
        "cli/_fleet/worker.py",
        "        self._signal(TELL_STACK)\n        self._gone.wait(self.stack_timeout)\n",
        "        self._signal(TELL_STACK)\n",
        f"{STUCK}::test_a_stuck_worker_costs_what_it_had_and_is_replaced",
    ),
    Mutation(
        "a stuck worker goes on without its master",
        "cli/_fleet/tether.py",
        "        os._exit(1)\n",
        "",
        f"{STUCK}::test_workers_end_with_a_master_that_is_killed_and_the_next_one_serves",
    ),
    Mutation(
        "a worker that has left is taken for stuck",
        "cli/_fleet/worker.py",
        "        self._silent = None\n        while not self.is_over():\n",
        "        while not self.is_over():\n",
        f"{STUCK}::test_a_worker_that_takes_long_to_end_after_it_has_left_is_not_stuck",
    ),
    Mutation(
        "a worker leaves before its successor is ready",
        "cli/_fleet/fleet.py",
        "        elif len(ready) > self.size:\n",
        "        elif len(serving) > self.size and ready:\n",
        f"{WORKERS}::test_new_code_that_does_not_import_leaves_the_old_one_serving",
    ),
    Mutation(
        "a hangup during a roll is lost",
        "cli/_fleet/fleet.py",
        "        if not self._stopping:\n            log.info",
        "        if not (self._stopping or self._rolling):\n            log.info",
        f"{WORKERS}::test_a_hangup_during_a_roll_is_followed_by_another_roll",
    ),
    Mutation(
        "a worker obeys a signal to stop before it has a successor",
        "cli/_fleet/tether.py",
        "        self._say(ENOUGH)\n",
        "        self.told.set()\n",
        f"{WORKERS}::test_a_signal_to_a_worker_has_it_replaced_in_order",
    ),
    Mutation(
        "workers that end soon are started at once",
        "cli/_fleet/fleet.py",
        "        self._not_before = max(self._not_before, now + self._delay)\n",
        "",
        f"{WORKERS}::test_workers_that_end_soon_are_started_later_and_later",
    ),
    Mutation(
        "workers that never start are started for ever",
        "cli/_fleet/fleet.py",
        "        if self.gave_up or time.monotonic() < self._not_before:\n",
        "        if time.monotonic() < self._not_before:\n",
        f"{WORKERS}::test_workers_that_never_start_end_the_master",
    ),
]
