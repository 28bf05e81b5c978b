"""Properties of packets: whatever a broker may forward is read without an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import _packet
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from kkt_bridge.mqtt import paho_client  # noqa: F401 (it has paho read properties in this way)
from kkt_bridge.mqtt.properties import read_properties

PUBLISH = 0x32
TOPIC = b"\x00\x01t"
MID = b"\x00\x07"


def decoded(block, payload=b"{}"):
    return _packet.decode_publish(PUBLISH, TOPIC + MID + block + payload, MQTTProtocolVersion.MQTTv5)


def block_of(content):
    assert len(content) < 128
    return bytes([len(content)]) + content


def test_what_paho_writes_is_read():
    written = Properties(PacketTypes.PUBLISH)
    written.ResponseTopic = "kkt/v1/answer"
    written.CorrelationData = b"\x00\xff"
    written.UserProperty = [("a", "b"), ("a", "c")]
    written.MessageExpiryInterval = 7
    written.ContentType = "text"
    written.PayloadFormatIndicator = 1
    packed = written.pack()
    assert read_properties(packed + b"payload") == (
        {"ResponseTopic": "kkt/v1/answer", "CorrelationData": b"\x00\xff"},
        len(packed),
    )


@pytest.mark.parametrize(
    "content",
    [
        b"\x01\x02",  # payload format indicator 2
        b"\x01\x00\x01\x01",  # twice
        b"\x23\x00\x00",  # topic alias 0
        b"\x08\x00\x00",  # an empty response topic
        b"\x08\x00\x01\xff",  # one that is no UTF-8
        b"\x26\x00\x01\xff\x00\x00",  # a user property that is no UTF-8
        b"\x03\x00\x03\xef\xbb\xbf",  # U+FEFF
        b"\x03\x00\x01\x00",  # U+0000
        b"\x0b\x00",  # subscription id 0
        b"\x0b\xff\xff\xff\x7f\x0b\x01",  # the largest, and another
        b"\x0b\xff\xff\xff\xff\x01",  # larger than can be
        b"\x7f\x01",  # no such property
        b"\x09\x00\x05ab",  # correlation data beyond the end
        b"\x08\x00",  # half a length
        b"\x21\x00\x00",  # a property of another packet
        b"\x02",  # a number without its bytes
    ],
)
def test_odd_properties_cost_nothing_but_themselves(content):
    found = decoded(block_of(content))
    assert (found.topic, found.mid, found.payload) == (b"t", 7, b"{}")
    assert not getattr(found.properties, "CorrelationData", None)


def test_what_is_needed_is_found_among_odd_neighbours():
    found = decoded(block_of(b"\x01\x02" + b"\x09\x00\x02ab" + b"\x26\x00\x01\xff\x00\x00" + b"\x09\x00\x01c"))
    assert found.properties.CorrelationData == b"ab"


@pytest.mark.parametrize("block", [b"\xff\xff\xff\xff\x7f", b"\x05\x01", b"\xff", b""])
def test_a_length_that_makes_no_sense_leaves_no_payload(block):
    assert decoded(block, b"").payload == b""


@given(st.binary(max_size=200), st.sampled_from(sorted({0x20, 0x32, 0x40, 0xE0})))
def test_nothing_raises_and_no_more_is_taken_than_there_is(data, header):
    block = read_properties(data)
    assert 0 <= block.size <= len(data)
    assert set(block.found) <= {
        "ResponseTopic",
        "CorrelationData",
        "ServerKeepAlive",
        "ReasonString",
        "ReceiveMaximum",
        "MaximumPacketSize",
    }
    found = decoded(data, b"")
    assert found.payload == data[block.size :]


@given(st.binary(max_size=60), st.binary(max_size=20))
def test_a_block_that_fits_never_costs_a_byte_of_the_payload(content, payload):
    assert decoded(block_of(content), payload).payload == payload


def test_a_brokers_limit_above_what_mqtt_can_carry_is_legal():
    connack = b"\x00\x00" + block_of(b"\x27\xff\xff\xff\xff\x21\x00\x05")
    found = _packet.decode_connack(0x20, connack, MQTTProtocolVersion.MQTTv5)
    assert (found.properties.MaximumPacketSize, found.properties.ReceiveMaximum) == (0xFFFFFFFF, 5)
