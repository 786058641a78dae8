//! What the process uses of the machine, as the system tells it. Where there is no `/proc`, numbers are 0 and texts
//! are empty: unknown, not guessed.

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use parking_lot::Mutex;

/// Ticks per second of the processor times in `/proc/self/stat`. Linux shows 100 to programs whatever the kernel's own
/// rate is.
const TICKS_PER_SECOND: u64 = 100;

/// The least time that a share of processor time is measured over; less is mostly rounding.
const CPU_INTERVAL_NS: u64 = 1_000_000_000;

/// Arguments whose value is a secret.
const SECRET_FLAGS: [&str; 2] = ["pass", "auth"];

const REDACTED: &str = "[REDACTED]";

/// Resident bytes.
pub(crate) fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// Processor time since the process was started, in user mode and in the kernel.
pub(crate) fn cpu_time() -> Duration {
    let ticks = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| {
        // The second field is the program's name in parentheses, which may hold anything; user and system time are
        // the fourteenth and fifteenth.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
        Some(times.next()?.ok()? + times.next()?.ok()?)
    });
    Duration::from_millis(ticks.unwrap_or(0) * 1000 / TICKS_PER_SECOND)
}

/// The command line without what is secret in it.
pub(crate) fn command_line() -> Vec<String> {
    without_secrets(std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()))
}

/// What each thread is doing: number, name and state, one to a line.
pub(crate) fn threads() -> String {
    let mut text = String::new();
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return text };
    for task in tasks.flatten() {
        // A thread may end between being listed and being looked at.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else { continue };
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim);
        let number = task.file_name();
        let (name, state) = (field("Name:"), field("State:"));
        // Writing to a text cannot fail.
        let _ = writeln!(text, "thread {} {name}: {state}", number.to_string_lossy());
    }
    text
}

/// The share of processor time between two looks that are at least a second apart.
#[derive(Debug)]
pub(crate) struct CpuMeter(Mutex<Reading>);

#[derive(Debug)]
struct Reading {
    at_ns: u64,
    used: Duration,
    /// Tenths of a per cent of one processor, up to `at_ns`.
    per_mille: u64,
}

impl CpuMeter {
    /// Measures from now on.
    pub(crate) fn start(now_ns: u64) -> Self {
        Self(Mutex::new(Reading { at_ns: now_ns, used: cpu_time(), per_mille: 0 }))
    }

    /// Per cent of one processor since the last look that is at least a second ago, with one decimal.
    pub(crate) fn percent(&self, now_ns: u64) -> f64 {
        let mut reading = self.0.lock();
        let elapsed_ns = now_ns.saturating_sub(reading.at_ns);
        if elapsed_ns >= CPU_INTERVAL_NS {
            let used = cpu_time();
            let spent_ns = used.saturating_sub(reading.used).as_nanos();
            let per_mille = spent_ns * 1000 / u128::from(elapsed_ns);
            *reading = Reading { at_ns: now_ns, used, per_mille: per_mille.try_into().unwrap_or(u64::MAX) };
        }
        reading.per_mille as f64 / 10.0
    }
}

fn without_secrets(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut value_is_secret = false;
    arguments
        .map(|argument| {
            if std::mem::take(&mut value_is_secret) {
                return REDACTED.into();
            }
            let (flag, value) = argument.split_once('=').map_or((&*argument, None), |(f, v)| (f, Some(v)));
            if !flag.starts_with('-') || !SECRET_FLAGS.contains(&flag.trim_start_matches('-')) {
                return without_password(argument);
            }
            if value.is_some() {
                return format!("{flag}={REDACTED}");
            }
            value_is_secret = true;
            argument
        })
        .collect()
}

/// The password of a URL is a secret as well: `nats://user:password@host`.
fn without_password(argument: String) -> String {
    let Some((scheme, rest)) = argument.split_once("://") else { return argument };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{REDACTED}@{host}"),
        None => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_on_the_command_line_are_not_shown() {
        for (line, expected) in [
            ("nats-server -c a.conf -D", "nats-server -c a.conf -D"),
            ("nats-server --user u --pass p -p 1", "nats-server --user u --pass [REDACTED] -p 1"),
            ("nats-server -auth t", "nats-server -auth [REDACTED]"),
            ("nats-server --auth=t", "nats-server --auth=[REDACTED]"),
            ("nats-server -pass", "nats-server -pass"),
            ("nats-server --routes nats://u:p@h:1", "nats-server --routes nats://[REDACTED]@h:1"),
        ] {
            assert_eq!(without_secrets(line.split(' ').map(str::to_owned)).join(" "), expected);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_what_is_used() {
        assert!(resident_bytes() > 100_000, "{}", resident_bytes());
        assert!(threads().contains(": R (running)"), "{}", threads());
        let meter = CpuMeter::start(1);
        let before = cpu_time();
        while cpu_time() < before + Duration::from_millis(50) {}
        // Fifty milliseconds and little more of two seconds that passed on this clock.
        let percent = meter.percent(2_000_000_001);
        assert!(percent >= 2.5, "{percent}");
        assert_eq!(meter.percent(2_500_000_000), percent);
    }
}
