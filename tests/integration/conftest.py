from support.world_fixtures import (  # noqa: F401
    amqtt,
    any_broker,
    calm_shop,
    make_world,
    mosquitto,
    pytest_runtest_makereport,
    world,
)
