"""Submitting an array through submitit, without what it pickles: its script runs a command of ours that reads JSON."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from avbench.executors.slurm_queue import SlurmError
from avbench.executors.slurm_resources import Asked


def parameters(asked: Asked, name: str) -> dict[str, Any]:
    """What a job asks, in submitit's terms; ``asked`` must have its CPUs and GPUs settled."""
    found: dict[str, Any] = {
        "job_name": name,
        "partition": asked.partition or None,
        "account": asked.account or None,
        "qos": asked.qos or None,
        "constraint": asked.constraint or None,
        "time": asked.time_min,
        "cpus_per_task": asked.cpus,
        "gpus_per_node": asked.gpus or None,
        "mem": f"{asked.memory_mib}M" if asked.memory_mib is not None else None,
        "array_parallelism": asked.array_parallelism,
        "signal_delay_s": asked.notice_s,
        "setup": list(asked.setup) or None,
        "wckey": None,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **asked.sbatch},
        "srun_args": [f"--cpus-per-task={asked.cpus}"],  # of a script's own, srun takes the number no longer
    }
    return found


def submit(folder: Path, asked: Asked, name: str, jobs: int) -> str:
    """Submit the array that ``folder`` describes; Slurm's number of it.

    Raises:
        SlurmError: sbatch refuses it.
    """
    executor = submitit.SlurmExecutor(folder=folder)
    executor.parameters.update(parameters(asked, name), map_count=jobs)
    # -P: a file of the user's, such as random.py in the current folder, must not shadow a module.
    command = [sys.executable, "-P", "-m", "avbench.executors.slurm_node", str(folder)]
    try:
        # Not submit(): that pickles a function, which the node would have to unpickle.
        return str(executor._submit_command(shlex.join(command)).job_id)
    except (FailedJobError, FailedSubmissionError, OSError, RuntimeError) as error:
        raise SlurmError(_told(error)) from None


def _told(error: Exception) -> str:
    """What sbatch said, without submitit's account of it."""
    lines = [line.strip() for line in str(error).splitlines() if "error:" in line or "sbatch:" in line]
    return "; ".join(line.removeprefix("sbatch: ").removeprefix("error: ") for line in lines) or str(error).strip()
