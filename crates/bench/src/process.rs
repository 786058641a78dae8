//! What the kernel knows about a process: CPU time, resident memory, and on which core it may run.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::error::BenchError;

/// Linux reports times in /proc/<pid>/stat in this unit to every program, whatever the kernel's own tick is.
const STAT_TICKS_PER_SECOND: u64 = 100;

/// User and system time that all threads of `pid`, ended ones included, have used so far.
///
/// The process's CPU clock is exact to the nanosecond. Where the kernel does not let us read it, the scheduler's
/// per-thread sums stand in, and as a last resort the tick counts.
pub fn cpu_time(pid: u32) -> Result<Duration, BenchError> {
    cpu_clock(pid)
        .or_else(|| thread_run_times(pid))
        .or_else(|| tick_counts(pid))
        .ok_or_else(|| BenchError::Server(format!("process {pid} is gone")))
}

fn cpu_clock(pid: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(raw_pid(pid)?).ok()?;
    clock.now().ok().map(Duration::from)
}

fn thread_run_times(pid: u32) -> Option<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let path = thread.ok()?.path().join("schedstat");
        // A thread may end between listing and reading.
        if let Ok(text) = fs::read_to_string(path) {
            sum += text.split_ascii_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    (sum > 0).then(|| Duration::from_nanos(sum))
}

fn tick_counts(pid: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold blanks; user and system time are fields 14 and 15 of the line.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / STAT_TICKS_PER_SECOND))
}

/// CPU time of this process.
pub fn own_cpu_time() -> Duration {
    ClockId::CLOCK_PROCESS_CPUTIME_ID.now().map(Duration::from).unwrap_or_default()
}

/// Resident memory of `pid` in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64, BenchError> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|source| BenchError::system(format!("read the memory of process {pid}"), source))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map(|kib| kib * 1024)
        .ok_or_else(|| BenchError::Server(format!("process {pid} is gone")))
}

/// Lets the calling thread, and what it starts from now on, run on `core` only.
pub fn pin_this_thread(core: usize) -> Result<(), BenchError> {
    pin(Pid::from_raw(0), core)
}

/// Lets all threads that `pid` has now run on `core` only.
pub fn pin_process(pid: u32, core: usize) -> Result<(), BenchError> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .map_err(|source| BenchError::system(format!("list the threads of process {pid}"), source))?;
    for thread in threads.flatten() {
        if let Some(id) = thread.file_name().to_str().and_then(|id| id.parse().ok()) {
            pin(Pid::from_raw(id), core)?;
        }
    }
    Ok(())
}

fn pin(thread: Pid, core: usize) -> Result<(), BenchError> {
    let mut cores = CpuSet::new();
    cores
        .set(core)
        .and_then(|()| sched_setaffinity(thread, &cores))
        .map_err(|source| BenchError::system(format!("use core {core}"), source))
}

/// How many cores the machine has; 0 if the kernel does not say.
pub fn machine_cores() -> usize {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    text.lines().filter(is_core).count()
}

/// How many cores the calling thread may use.
pub fn cores() -> usize {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return 1 };
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).count()
}

/// Raises the number of files this process and its children may open to what the administrator allows, and says it.
pub fn raise_file_limit() -> Result<u64, BenchError> {
    let raise = || -> nix::Result<u64> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(hard)
    };
    raise().map_err(|source| BenchError::system("raise the limit of open files", io::Error::from(source)))
}

/// `pid` as the kernel's calls want it; `None` if no process can have it.
pub fn raw_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn all_three_clocks_agree_about_this_process() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(300) {
            std::hint::black_box(start);
        }
        let pid = std::process::id();
        let exact = cpu_clock(pid).unwrap();
        assert!(exact >= Duration::from_millis(100), "{exact:?}");
        assert!(tick_counts(pid).unwrap().abs_diff(exact) < Duration::from_millis(200));
        // Ended threads are missing in the second, and a tick may be in the last.
        assert!(thread_run_times(pid).unwrap() <= exact + Duration::from_millis(50));
        assert!(cpu_time(pid).unwrap() >= exact);
    }

    #[test]
    fn this_process_has_memory_and_cores() {
        let bytes = resident_bytes(std::process::id()).unwrap();
        assert!((500_000..10_000_000_000).contains(&bytes), "{bytes}");
        assert!(cores() >= 1 && machine_cores() >= cores());
    }

    #[test]
    fn a_process_that_cannot_be_is_an_error() {
        assert!(cpu_time(u32::MAX).is_err());
        assert!(resident_bytes(u32::MAX).is_err());
    }
}
