"""The sweep answers --help in under 3 s."""

import subprocess
import sys
import time

command = [sys.executable, "-m", "sensitivity.sweep", "--help"]
for _ in range(2):  # the first run warms the disk and the byte code
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
if done.returncode or "--T" not in done.stdout:
    sys.exit(f"--help must print --T and exit 0, got {done.returncode}:\n{done.stderr}")
print(f"{seconds:.2f} s")
if seconds >= 3:
    sys.exit("--help must answer in under 3 s.")
