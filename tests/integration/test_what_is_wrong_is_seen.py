"""What keeps documents from the OFD is seen: by the health, by the alerts, and by the exit status of `status`."""

import pytest
from cli.running_bridge import run
from support.stages import meddle, rows


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


def test_a_document_that_cannot_be_put_together_is_told_until_it_can(make_world):
    """As after an upgrade with a stricter rule, over a journal that has no bodies yet."""
    world = make_world()
    world.ofd_faults(outage=True)
    world.sell()
    world.bridge.terminate()
    ((body,),) = rows(world.directory, "SELECT body FROM requests")
    meddle(world.directory, "DELETE FROM bodies", "UPDATE requests SET body = '{}'")
    world.ofd_faults()
    world.sees_everything = False
    world.bridge.start()
    alerts = world.wait_state("alerts", lambda state: state["alerts"] != [])["alerts"]
    assert [(alert["code"], alert["severity"], alert["kkt"]) for alert in alerts] == [
        ("unsendable_documents", "critical", "kkt-1")
    ]
    world.wait_state("sync", lambda state: state["unsendable"] == 1)
    told = run("status", "--config", world.bridge.file)
    assert told.returncode == 1
    assert "1 document cannot be put together for it" in told.stdout
    assert "1 document of kkt-1 cannot be put together as the OFD gets them" in told.stdout

    world.bridge.terminate()
    meddle(world.directory, f"UPDATE requests SET body = '{body}'")
    world.bridge.start()
    world.wait_ofd(lambda books: books["total"] == 1, "the document at the OFD")
    world.wait_state("alerts", lambda state: state["alerts"] == [])
    world.wait_state("health", lambda state: state["status"] == "healthy")
