#!/usr/bin/env python3
"""deploy/slurm on a Slurm of one machine, which this starts on loopback and ends again:

    slurm_check.py TRIMTAB GOLDEN TRIMTAB-MPI [TEST]..

As root, with Debian's slurm-wlm and munge. Eight processors and GPUs are claimed that need not be there, so that the
scripts' own requests are granted; the model is the tests' tiny one, on the CPU."""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "cli"))
# pylint: disable=wrong-import-position
import program
from program import check, read, tiny, trimtab
from serve_client import Answer, read_all
from shared_job import SharedJob, shared_rows

trimtab_mpi = os.path.abspath(sys.argv.pop(3))
SCRIPTS = os.path.join(program.here, "..", "..", "deploy", "slurm")
WAIT = 120  # seconds after which something is taken to hang

CONFIGURATION = """
ClusterName=trimtab
SlurmctldHost=HOST(127.0.0.1)
SlurmctldPort=CONTROL
SlurmdPort=DAEMON
SlurmUser=USER
SlurmdUser=USER
AuthType=auth/munge
AuthInfo=socket=FOLDER/munge/socket
StateSaveLocation=FOLDER/state
SlurmdSpoolDir=FOLDER/spool
SlurmctldPidFile=FOLDER/slurmctld.pid
SlurmdPidFile=FOLDER/slurmd.pid
SlurmctldLogFile=FOLDER/slurmctld.log
SlurmdLogFile=FOLDER/slurmd.log
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MinJobAge=3600
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0
GresTypes=gpu
NodeName=HOST NodeAddr=127.0.0.1 CPUs=64 Gres=gpu:8 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def wait_for(holds, what, seconds=WAIT):
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    check(held, what)
    return held


class Slurm:
    """munged, slurmctld and slurmd of a folder of their own."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        for name in "munge", "state", "spool":
            os.mkdir(f"{folder}/{name}", 0o755)
        with open(f"{folder}/munge/key", "wb") as file:
            file.write(os.urandom(1024))
        os.chmod(f"{folder}/munge/key", 0o400)
        values = {"FOLDER": folder, "HOST": socket.gethostname().split(".")[0], "USER": getpass.getuser(),
                  "CONTROL": str(free_port()), "DAEMON": str(free_port())}
        for i in range(8):  # the devices of GPUs that are not there
            with open(f"{folder}/gpu{i}", "wb"):
                pass
        for name, text in ("slurm.conf", CONFIGURATION), ("gres.conf", "Name=gpu File=FOLDER/gpu[0-7]\n"):
            with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
                file.write(re.sub("|".join(values), lambda found: values[found[0]], text))
        os.environ["SLURM_CONF"] = f"{folder}/slurm.conf"
        self.start("munged", "--foreground", "--force", f"--socket={folder}/munge/socket",
                   f"--key-file={folder}/munge/key", f"--pid-file={folder}/munge/pid",
                   f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed")
        wait_for(lambda: os.path.exists(f"{folder}/munge/socket"), "munged does not start")
        self.start("slurmctld", "-D", "-i")
        self.start("slurmd", "-D")
        if not wait_for(lambda: "idle" in self.tell("sinfo", "-h", "-o", "%t") or program.problems,
                        "the node does not come up", 60) or program.problems:
            self.end()
            program.end()

    def start(self, *command):
        with open(f"{self.folder}/{command[0]}.said", "wb") as said:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said))

    def tell(self, *command, **environment):
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
                              env=os.environ | environment)
        check(done.returncode == 0, f"{command}: {done.returncode}: {done.stderr[-500:]}")
        return done.stdout

    def end(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
        if program.problems:
            for name in "slurmctld.said", "slurmd.said":
                print(f"{name}: {read(f'{self.folder}/{name}').decode()[-3000:]}")


slurm = None


def state(job, field="JobState"):
    """Of each task of a job."""
    return re.findall(rf"\b{field}=(\S+)", slurm.tell("scontrol", "show", "job", job))


def ended(job, wanted="COMPLETED"):
    over = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
    wait_for(lambda: set(state(job)) <= over, f"job {job} does not end: {state(job)}")
    check(set(state(job)) == {wanted}, f"job {job}: {state(job)}: {logs()}")


def logs():
    return {name: read(name).decode()[-500:] for name in os.listdir(".") if name.endswith(".log")}


def environment(**more):
    return {"MODEL": tiny, "INPUT": "in.jsonl", "OUTPUT": "out", "TRIMTAB": trimtab, **more}


def submit(job, **more):
    said = slurm.tell(f"{SCRIPTS}/submit-batch.sh", "--telemetry", "tokens", *job.arguments, **environment(**more))
    return re.fullmatch(r"array (\d+), merge (\d+)\n", said).groups()


def test_accepted():
    """What sbatch says of each script as it is."""
    for name in sorted(os.listdir(SCRIPTS)):
        if name.endswith(".sbatch"):
            options = ["--nodes=1"] if "mpi" in name else []
            slurm.tell("sbatch", "--test-only", *options, f"{SCRIPTS}/{name}")


def test_array():
    """Eight shards of the array and the merge behind them; the files of one process."""
    job = SharedJob(shared_rows(2500), "-n", "2")
    shards, merge = submit(job)
    check(state(merge, "Dependency")[0].startswith(f"afterok:{shards}"), "the merge does not wait")
    ended(shards)
    ended(merge)
    check(len(state(shards)) == 8, f"{state(shards)}")
    job.same("an array")


def test_requeued():
    """A task that Slurm takes back while it runs comes again, and the merge still waits for it."""
    job = SharedJob(shared_rows(2500), "-n", "40")
    shards, merge = submit(job, ARRAY="--array=0-2 --cpus-per-task=1")
    wait_for(lambda: "RUNNING" in state(f"{shards}_1") and os.path.exists("out.parts"), "no task runs")
    slurm.tell("scontrol", "requeue", f"{shards}_1")
    # What is taken back waits for two minutes, as Slurm has it. It need not be so long, but not within the same
    # second either, in which slurmd takes the new run for the one that was ended.
    wait_for(lambda: state(f"{shards}_1") == ["PENDING"] and state(f"{shards}_1", "Restarts") == ["1"],
             "the task is not taken back")
    slurm.tell("scontrol", "update", f"JobId={shards}_1", "StartTime=now+4")
    ended(shards)
    ended(merge)
    restarts = state(f"{shards}_1", "Restarts")
    check(restarts == ["1"] and len(state(shards)) == 3, f"{restarts}: {state(shards)}")
    job.same("a task that was taken back")
    print(f"a task that was taken back ran {int(restarts[0]) + 1} times")


def test_failed():
    """A merge does not run behind a task that failed, and the next call goes on."""
    job = SharedJob(shared_rows(600), "-n", "2")
    shards, merge = submit(job, TRIMTAB="/bin/false", ARRAY="--array=0-1")
    ended(shards, "FAILED")
    ended(merge, "CANCELLED")
    shards, merge = submit(job, ARRAY="--array=0-4")
    ended(shards)
    ended(merge)
    job.same("the second call")


def mpi(launch):
    job = SharedJob(shared_rows(1000), "-n", "2")
    said = slurm.tell("sbatch", "--parsable", "--nodes=1", "--ntasks-per-node=4", "--cpus-per-task=1",
                      f"{SCRIPTS}/batch-mpi.sbatch", "--json", "--telemetry", "tokens", *job.arguments,
                      **environment(TRIMTAB=trimtab_mpi, LAUNCH=launch, OMPI_ALLOW_RUN_AS_ROOT="1",
                                    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1"))
    ended(said.strip())
    # srun has a line to say of a status of 4.
    summary = next(json.loads(line) for line in read(f"trimtab-mpi-{said.strip()}.log").splitlines()
                   if line.startswith(b"{"))
    check(len(summary["ranks"]) == 4 and summary["rows"] > 0, f"ranks by {launch}: {summary}")
    job.same(f"ranks by {launch}")


def test_mpi_by_srun():
    mpi("srun")


def test_mpi_by_mpirun():
    mpi("mpirun")


def ask(address, path):
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        return Answer(read_all(connection)).status


def test_serve():
    """Replicas listen where they say, and end well at SIGTERM."""
    with open("keys", "w", encoding="ascii") as file:
        file.write(f"alice-1 {'0' * 64} Alice\n")
    first = free_port()
    said = slurm.tell("sbatch", "--parsable", "--array=0-1", "--cpus-per-task=1", f"{SCRIPTS}/serve.sbatch",
                      "--threads", "1", **environment(KEYS="keys", REPLICAS="replicas", PORT=str(first))).strip()

    def answers():
        try:
            return [ask(read(f"replicas/{i}").decode().strip(), "/ready") for i in range(2)] == [200, 200]
        except OSError:
            return False
    wait_for(answers, "the replicas are not ready")
    check(ask(read("replicas/0").decode().strip(), "/v1/models") == 401, "no key is asked for")
    slurm.tell("scancel", "--signal=TERM", said)
    ended(said)
    check(os.listdir("replicas") == [], "a replica that has ended is still named")


def main():
    global slurm  # pylint: disable=global-statement
    if not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch"))):
        sys.exit("slurm_check: slurm-wlm and munge are not there")
    with tempfile.TemporaryDirectory() as folder:
        slurm = Slurm(folder)
        try:
            os.mkdir(f"{folder}/work")
            os.chdir(f"{folder}/work")
            program.run_tests(globals(), sys.argv[3:])
            os.chdir("/")
        finally:
            slurm.end()
    program.end()


main()
