"""Drives a machine that was started with -S, in the folder of the first argument, with Python's qemu.qmp."""

import asyncio
import os
import sys

from qemu.qmp import EventListener, ExecuteError, QMPClient


async def main(folder):
    client = QMPClient("test")
    await client.connect(os.path.join(folder, "qmp"))
    assert client.greeting.QMP.version["qemu"]["major"] == 8, client.greeting
    events = []

    async def status():
        return (await client.execute("query-status"))["status"]

    with client.listener() as listener:

        async def event(name, **data):
            got = await asyncio.wait_for(listener.get(), 20)
            assert got["event"] == name, (got, name)
            assert got["timestamp"]["seconds"] > 0, got
            for key, value in data.items():
                assert got["data"][key] == value, got

        assert await status() == "prelaunch"
        await client.execute("cont")
        await event("RESUME")
        assert await status() == "running"
        await seen(folder, 1)
        await client.execute("stop")
        await event("STOP")
        assert await status() == "paused"
        for command, file in (("pmemsave", "physical"), ("memsave", "logical")):
            where = {"val": 0x11000, "size": 0x200, "filename": os.path.join(folder, file)}
            await client.execute(command, where)
        await client.execute("cont")
        await event("RESUME")
        await client.execute("system_reset")
        await event("RESET", guest=False, reason="host-qmp-system-reset")
        await seen(folder, 2)
        assert await status() == "running"
        try:
            await client.execute("no-such-command")
        except ExecuteError as error:
            assert error.error_class == "CommandNotFound", error
            assert str(error) == "The command no-such-command has not been found", error
        else:
            raise AssertionError("an unknown command was accepted")
        # Two commands at once: ids tell the answers apart.
        name, version = await asyncio.gather(client.execute("query-name"), client.execute("query-version"))
        assert "qemu" in version and "qemu" not in name
        await client.execute("quit")
        await event("SHUTDOWN", guest=False, reason="host-qmp-quit")
    try:
        await client.disconnect()
    except EOFError:
        # The machine has closed the connection first, as QEMU does after `quit`.
        pass


async def seen(folder, times):
    """Waits until the guest has started that often."""
    for _ in range(1000):
        with open(os.path.join(folder, "console"), "rb") as console:
            if console.read().count(b"ready") >= times:
                return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the guest has not started {times} times")


asyncio.run(main(sys.argv[1]))
