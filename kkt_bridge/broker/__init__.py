"""The MQTT side: the bridge's session, clients for tools, and the embedded broker."""
