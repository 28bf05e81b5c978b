"""The MQTT side: the bridge's session with the broker, and the client that tools use."""
