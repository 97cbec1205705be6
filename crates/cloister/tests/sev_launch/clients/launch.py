"""A whole SEV launch with Python's qemu.qmp and the owner's tools: launch.py PROGRAM FOLDER.

FOLDER holds a platform and ovmf.fd. The steps are those of a person: ask the platform, make a session, launch with -S,
measure, verify, inject a secret, go on.
"""

import asyncio
import os
import subprocess
import sys

from qemu.qmp import ExecuteError, QMPClient

PROGRAM, FOLDER = sys.argv[1:]
os.chdir(FOLDER)


def owner(*arguments):
    return subprocess.run([PROGRAM, "sev", *arguments], check=True, capture_output=True, text=True)


class Machine:
    """A machine and a QMP connection to it, which ends both."""

    def __init__(self, *options):
        common = ["-platform", "platform", "-nodefaults", "-display", "none", "-qmp", "unix:qmp,server=on,wait=off"]
        self.process = subprocess.Popen(["qemu-system-x86_64", *common, *options], executable=PROGRAM)
        self.client = QMPClient("owner")

    async def __aenter__(self):
        for _ in range(200):
            if self.process.poll() is not None:
                raise AssertionError(f"the machine ended with status {self.process.returncode}")
            if os.path.exists("qmp"):
                break
            await asyncio.sleep(0.05)
        await self.client.connect("qmp")
        return self.client

    async def __aexit__(self, *failure):
        if failure[0] is None:
            await self.client.execute("quit")
        else:
            self.process.kill()
        try:
            await self.client.disconnect()
        except EOFError:
            pass
        status = self.process.wait(20)
        assert failure[0] is not None or status == 0, status


async def main():
    async with Machine("-machine", "none") as qmp:
        capabilities = await qmp.execute("query-sev-capabilities")
    assert capabilities["cbitpos"] == 51 and capabilities["reduced-phys-bits"] == 1, capabilities
    for name in ("pdh", "cert-chain"):
        with open(name, "w", encoding="ascii") as file:
            file.write(capabilities[name])

    owner("session", "--name", "vm", "pdh", "1")
    sev = "sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=1,dh-cert-file=vm_godh.b64,session-file=vm_session.b64"
    machine = ("-machine", "q35,confidential-guest-support=sev0", "-object", sev, "-bios", "ovmf.fd", "-m", "64")
    async with Machine("-S", *machine) as qmp:
        state = await qmp.execute("query-sev")
        assert state["state"] == "launch-secret" and state["policy"] == 1, state
        measurement = (await qmp.execute("query-sev-launch-measure"))["data"]
        firmware = []
        for name in ("api-major", "api-minor", "build-id"):
            firmware += [f"--{name}", str(state[name])]
        owner("verify", "--measurement", measurement, "--firmware", "ovmf.fd", "--tik", "vm_tik.bin", *firmware)

        with open("password", "w", encoding="ascii") as file:
            file.write("a disk's password")
        keys = ("--tik", "vm_tik.bin", "--tek", "vm_tek.bin")
        packet = ("--secret", "disk-password:password", "header", "payload")
        owner("secret", "build", "--base64", "--launch-measure-blob", measurement, *keys, *packet)
        with open("header", encoding="ascii") as header, open("payload", encoding="ascii") as payload:
            injected = {"packet-header": header.read(), "secret": payload.read()}
        await qmp.execute("sev-inject-launch-secret", injected)

        try:
            await qmp.execute("cont")
        except ExecuteError as error:
            assert error.error_class == "GenericError" and "no CPU back end" in str(error), error
        else:
            raise AssertionError("no core runs x86-64 guests, and cont was accepted")
        assert (await qmp.execute("query-sev"))["state"] == "launch-secret"


asyncio.run(asyncio.wait_for(main(), 100))
