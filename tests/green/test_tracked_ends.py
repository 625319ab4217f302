"""Frames that pyzmq has lent to libzmq, as tracked ones are, when the process ends."""

import pytest
from slow_exit import check_all_arrives, needs_atexit_of_c

pytestmark = [pytest.mark.once, pytest.mark.processes, needs_atexit_of_c]

FORMS = {
    "tracked": ("green", "tracked"),
    "frame": ("green", "frame"),
    "source": ("source", "frame"),
}


@pytest.mark.parametrize("patched", ["patched", "plain"])
@pytest.mark.parametrize(("owner", "form"), FORMS.values(), ids=FORMS)
def test_a_process_that_ends_while_tracked_frames_are_lent_sends_them_whole(
    context, owner, form, patched
):
    check_all_arrives(context, patched, owner, form, 20)
