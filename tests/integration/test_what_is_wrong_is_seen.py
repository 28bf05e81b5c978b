"""An OFD that refuses everything is seen: by the health, by the alerts, and by the exit status of `status`."""

import pytest
from cli.shop import run


@pytest.mark.parametrize("status", [401, 404])
def test_an_ofd_that_refuses_everything_is_told_with_what_to_do(make_world, status):
    world = make_world()
    world.sell()
    assert run("status", "--config", world.bridge.file).returncode == 0
    world.ofd_faults(outage=True, status=status)
    for _ in range(3):
        world.sell()
    health = world.wait_state("health", lambda state: state["status"] != "healthy")
    assert health["status"] == "degraded", "the shop sells"
    alerts = world.wait_state("alerts", lambda state: state["alerts"] != [])["alerts"]
    assert [alert["code"] for alert in alerts] == ["ofd_refuses_bridge"], "this bridge is refused, no document of its"
    assert all(alert["what_to_do"] for alert in alerts)
    state = world.wait_state("kkt/kkt-1", lambda state: state["ofd_unsent"] == 3)
    assert state["ofd_first_unsent_at"] is not None
    told = run("status", "--config", world.bridge.file)
    assert told.returncode == 1
    assert "health    degraded: " in told.stdout
    assert "\n! " in told.stdout
    assert "\n  -> " in told.stdout

    world.ofd_faults()
    assert world.wait_state("buffer", lambda state: state["pending"] == 3)["dlq_size"] == 0
    world.command("sync")
    world.wait_ofd(lambda books: books["total"] == 4, "everything at the OFD")
    world.wait_state("alerts", lambda state: state["alerts"] == [])
    world.wait_state("health", lambda state: state["status"] == "healthy")
