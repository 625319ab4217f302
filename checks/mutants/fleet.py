"""Lines of ``serve --workers`` that are broken."""

from mutants.mutation import Mutation

WORKERS, STUCK = "cli/test_serve_workers.py", "cli/test_serve_stuck.py"
NUMBERS, RELOADING = "cli/test_serve_numbers.py", "cli/test_serve_reloading.py"
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
        "        if not self._stopping and self._rolled.is_set():\n            log.info",
        f"{WORKERS}::test_a_hangup_during_a_roll_is_followed_by_another_roll",
    ),
    Mutation(
        "a worker obeys a signal to stop before it has a successor",
        "cli/_fleet/tether.py",
        'another worker is ready."""\n        self._say(ENOUGH)\n',
        'another worker is ready."""\n        self.told.set()\n',
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
    Mutation(
        "each new worker has a name of its own",
        "cli/_fleet/fleet.py",
        "        taken = {worker.number for worker in self.workers}\n",
        "        taken = self.__dict__.setdefault('ever', set())\n        taken.add(len(taken))\n",
        f"{NUMBERS}::test_the_names_of_replaced_workers_are_used_again",
    ),
    Mutation(
        "an answer waits for a stuck worker",
        "cli/_fleet/fleet.py",
        "        gevent.wait([answer for _, answer in asked], timeout=seconds)\n",
        "        gevent.wait([answer for _, answer in asked], timeout=60)\n",
        f"{NUMBERS}::test_a_stuck_worker_is_left_out_and_counted_until_it_answers_again",
    ),
    Mutation(
        "whoever waits for the numbers of a worker that has ended is not told",
        "cli/_fleet/answers.py",
        '        self._tell(b"")\n',
        "",
        f"{NUMBERS}::test_an_end_of_the_line_is_an_answer",
    ),
    Mutation(
        "an answer has no bound",
        "cli/_fleet/answers.py",
        "            if len(self._body) <= self.most:\n",
        "            if True:\n",
        f"{NUMBERS}::test_an_answer_that_is_too_long_is_none_and_not_kept",
    ),
    Mutation(
        "numbers that no buffer holds are cut",
        "cli/_fleet/tether.py",
        "                    wait_write(self._line.fileno())\n",
        "                    return\n",
        f"{NUMBERS}::test_numbers_that_no_buffer_holds_are_told_whole",
    ),
    Mutation(
        "the service has reloaded as soon as the roll was accepted",
        "cli/_fleet/fleet.py",
        "        self._rolled.wait()\n",
        "",
        f"{RELOADING}::test_it_reloads_until_all_workers_are_replaced",
    ),
    Mutation(
        "the folder of a killed master stays",
        "cli/_fleet/tether.py",
        "        self._remove_folder()\n",
        "",
        f"{STUCK}::test_workers_end_with_a_master_that_is_killed_and_the_next_one_serves",
    ),
    Mutation(
        "a stop in which a worker dies counts as one in which all was finished",
        "cli/_fleet/master.py",
        "    check_finished(stop_timeout, given_up, master.broker.stats().lost - lost)\n",
        "    check_finished(stop_timeout, given_up)\n",
        "cli/test_stop_twice.py",
    ),
    Mutation(
        "a stop of a broker in which a worker dies counts as one in which all was finished",
        "cli/_broker.py",
        "    check_finished(stop_timeout, given_up, serving.stats().lost - lost)\n",
        "    check_finished(stop_timeout, given_up)\n",
        "cli/test_broker_verb.py",
    ),
]
