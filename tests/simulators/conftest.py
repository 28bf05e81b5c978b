from support.world_fixtures import amqtt, any_broker, make_world, mosquitto, pytest_runtest_makereport  # noqa: F401
