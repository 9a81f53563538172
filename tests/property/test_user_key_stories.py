"""Whatever order devices come and keys are renewed in, every device holds every generation.

Data flow: a generated story of one user's devices -> org log -> `hold_user_keys` on each of them.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.user_keys import hold_user_keys
from tests.unit.test_user_keys import World

steps = st.lists(
    st.tuples(st.sampled_from(["add", "renew"]), st.integers(0, 9)), min_size=1, max_size=7
)


@settings(max_examples=20, deadline=None)
@given(steps)
def test_every_device_holds_every_generation(told: list[tuple[str, int]]) -> None:
    world = World()
    devices = [world.first.secrets]
    for what, who in told:
        author = devices[who % len(devices)]
        if what == "add":
            devices.append(world.add(author))
        else:
            world.renew(author)
    renewals = sum(what == "renew" for what, _ in told)
    first = hold_user_keys(world.org, devices[0]).user_keys
    assert [one.generation for one in first] == list(range(1, renewals + 2))
    assert all(hold_user_keys(world.org, one).user_keys == first for one in devices)
    known = world.org.generations[devices[0].user]
    assert [BoxKey(one.seed).public for one in first] == [one.box_key for one in known]
