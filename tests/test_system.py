"""What this machine has for runs: cores and memory, also within the limits of a container or a batch system's job."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core import system
from bench.core.system import cores, free_memory

MIB = 2**20


class Groups:
    """Control groups in a folder, as the process with this line of /proc/self/cgroup sees them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, lines: str) -> None:
        self.folder = folder
        texts = {"/proc/self/cgroup": lines, "/proc/meminfo": "MemTotal: 9216 kB\nMemAvailable:    4096000 kB\n"}
        read = Path.read_text
        patch.setattr(Path, "read_text", lambda path, *rest: texts.get(str(path)) or read(path, *rest))
        patch.setattr(system, "CONTROL_GROUPS", folder)
        patch.setattr(system.os, "sched_getaffinity", lambda _: range(8))

    def write(self, group: str, files: dict[str, str]) -> None:
        (self.folder / group).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.folder / group / name).write_text(text)


def test_limits_of_version_2_count_at_each_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = Groups(tmp_path, monkeypatch, "0::/jobs/job_7\n")
    assert (cores(), free_memory()) == (8, 4000)
    groups.write("jobs/job_7", {"cpu.max": "max 100000\n", "memory.max": "max\n", "memory.current": "5"})
    assert (cores(), free_memory()) == (8, 4000)
    groups.write("jobs", {"cpu.max": "250000 100000\n", "memory.max": f"{2000 * MIB}\n"})
    groups.write("jobs", {"memory.current": f"{700 * MIB}", "memory.stat": f"anon 9\ninactive_file {100 * MIB}\n"})
    assert (cores(), free_memory()) == (3, 1400), "what files have cached can be had"
    groups.write("jobs/job_7", {"memory.max": f"{600 * MIB}", "memory.current": f"{650 * MIB}", "memory.stat": ""})
    assert free_memory() == 0


def test_limits_of_version_1_count_also_where_a_container_sees_its_own_at_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = Groups(tmp_path, monkeypatch, "5:cpu,cpuacct:/docker/0a1b\n4:memory:/docker/0a1b\n3:pids:/\n0::/\n")
    groups.write("cpu", {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"})
    assert (cores(), free_memory()) == (8, 4000)
    groups.write("cpu", {"cpu.cfs_quota_us": "200000"})
    groups.write("memory", {"memory.limit_in_bytes": f"{900 * MIB}", "memory.usage_in_bytes": f"{500 * MIB}"})
    groups.write("memory", {"memory.stat": f"total_inactive_file {50 * MIB}\n"})
    assert (cores(), free_memory()) == (2, 450)


def test_a_system_that_says_nothing_of_its_memory_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(path: Path, *_: object) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", nothing)
    assert free_memory() is None and cores() >= 1
