"""What stands around the bridge, simulated: the OFD, POS terminals, an MQTT broker. Registers: `registers/virtual`."""
