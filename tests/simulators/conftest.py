from support.shops import amqtt, any_broker, make_world, mosquitto, pytest_runtest_makereport  # noqa: F401
