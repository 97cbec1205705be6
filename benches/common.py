"""What the benches share: where things are, one boot, the summary of a series."""

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLOISTER = os.path.join(REPOSITORY, "target", "release", "cloister")
GUESTS = os.path.join(os.environ.get("CLOISTER_CACHE", os.path.join(REPOSITORY, "cache")), "s390x")
# What `-d stats` prints.
COUNT_PATTERN = r"([0-9][0-9_,]*) instructions"


def stop(text):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")


def boot_arguments(parser, runs):
    """The options that all boots have."""
    parser.add_argument("-n", "--runs", type=int, default=runs, help=f"boots of each machine (default {runs})")
    parser.add_argument("--smp", type=int, default=1, help="CPUs (default 1)")
    parser.add_argument("--memory", default="512", help="MiB (default 512)")
    parser.add_argument("--kernel", default=os.path.join(GUESTS, "vmlinuz-6.12"))
    parser.add_argument("--initrd", default=os.path.join(GUESTS, "initramfs-basic.gz"))
    parser.add_argument("--append", default="console=ttysclp0 panic=-1")
    parser.add_argument("--expect", default="INIT-REACHED", help="line that must appear on the console")
    parser.add_argument("--cloister", default=CLOISTER)
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one boot (default 300)")


def check(programs, files):
    for program in programs:
        if not shutil.which(program):
            stop(f"{program} is missing" + (": cargo build --release first" if program.endswith("cloister") else ""))
    for path in files:
        if not os.path.exists(path):
            stop(f"{path} is missing: run scripts/fetch-s390x-guests")


def boot(command, expect, timeout):
    """One boot: (seconds, seconds of processor time, output). The bench ends if the boot fails."""
    started, before = time.monotonic(), processor_time()
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        tail(error.stdout)
        stop(f"{command[0]} did not end within {timeout:.0f} s")
    seconds, processor = time.monotonic() - started, processor_time() - before
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0 or expect not in text:
        tail(done.stdout)
        stop(f"{command[0]} ended with status {done.returncode}, {expect!r} {'seen' if expect in text else 'not seen'}")
    return seconds, processor, text


def processor_time():
    """Of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def tail(output):
    print("\n".join((output or b"").decode("utf-8", "replace").splitlines()[-20:]), file=sys.stderr)


def instructions(text, pattern=COUNT_PATTERN):
    """The instruction count that a run printed last, if it did."""
    found = re.findall(pattern, text)
    return int(re.sub("[_,]", "", found[-1])) if found else None


class Series:
    """Boots of one machine."""

    def __init__(self, name, command, expect):
        self.name, self.command, self.expect = name, command, expect
        self.times, self.processor, self.counts, self.rates = [], [], [], []

    def boot(self, run, timeout, pattern=COUNT_PATTERN):
        seconds, processor, text = boot(self.command, self.expect, timeout)
        self.times.append(seconds)
        self.processor.append(processor)
        count, note = instructions(text, pattern), ""
        if count is not None:
            self.counts.append(count)
            self.rates.append(count / seconds / 1e6)
            note = f"  {count} instructions, {self.rates[-1]:.0f} MIPS"
        print(f"run {run + 1} {self.name:9} {seconds:8.2f} s, processor {processor:6.2f} s{note}", flush=True)

    def median(self):
        return statistics.median(self.times)

    def ratio(self, other):
        """Of the medians; and of the lowest processor times, because other work on the machine only adds."""
        lowest = min(self.processor) / min(other.processor)
        print(f"ratio {self.name}/{other.name} {self.median() / other.median():.2f} (by lowest processor time {lowest:.2f})")
        return self.median() / other.median()

    def summary(self):
        values = self.times
        print(f"{self.name:9} median {self.median():.2f} s (lowest {min(values):.2f}, highest {max(values):.2f}, {len(values)} runs)")
        if self.rates:
            low, high = min(self.counts), max(self.counts)
            same = "the same in every run" if low == high else f"{low} to {high}"
            print(f"{self.name:9} median {statistics.median(self.rates):.0f} MIPS, start and end included; instructions: {same}")


def batch(series, runs, timeout, pattern=COUNT_PATTERN):
    """Boots in turn, because only times of the same batch can be compared."""
    for run in range(runs):
        for one in series:
            one.boot(run, timeout, pattern)
    for one in series:
        one.summary()


def load():
    """The load average, for a reader who wonders about the numbers."""
    return f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"


class ProtectedImage:
    """A model machine and an encrypted image for it, in a temporary folder."""

    def __init__(self, cloister, kernel, initrd, append):
        self.folder = tempfile.TemporaryDirectory(prefix="cloister-bench-")
        self.platform = os.path.join(self.folder.name, "platform")
        self.image = os.path.join(self.folder.name, "image")
        parmfile = os.path.join(self.folder.name, "parmfile")
        with open(parmfile, "w", encoding="utf-8") as file:
            file.write(append)
        self.tool(cloister, "pv", "host-key", "create", "-o", self.platform)
        document = os.path.join(self.platform, "host.crt")
        create = [cloister, "pv", "image", "create", "--no-verify", "-k", document, "-i", kernel]
        self.tool(*create, "-r", initrd, "-p", parmfile, "-o", self.image)

    def options(self):
        machine = "s390-ccw-virtio,confidential-guest-support=pv0"
        return ["-machine", machine, "-object", "s390-pv-guest,id=pv0", "-platform", self.platform, "-kernel", self.image]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.folder.cleanup()

    @staticmethod
    def tool(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode != 0:
            tail(done.stdout)
            stop(f"{' '.join(command[:4])} failed")
