import pytest

from harness import Relay
from tls import Files


@pytest.fixture
def files(tmp_path):
    """A certificate and its key."""
    return Files(tmp_path)


@pytest.fixture
async def start(tmp_path):
    """Starts relays. At the end each must have released everything, and must exit with status 0 and without a panic."""
    relays = []

    async def start(**settings):
        relay = Relay(tmp_path, **settings)
        relays.append(relay)
        return await relay.listens()

    yield start
    try:
        for relay in relays:
            await relay.ends_well()
    finally:
        for relay in relays:
            relay.process.kill()
            relay.process.wait()
