//! Owns what the kernel says about CPU time and memory of processes, and the pinning of this one.

use super::LoadError;
use rustix::thread::{CpuSet, sched_setaffinity};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

/// The processes of the server: those given and all their descendants, looked up afresh each time.
#[derive(Clone, Debug)]
pub struct Processes {
    roots: Vec<u32>,
}

impl Processes {
    /// # Errors
    /// [`LoadError::NoProcess`] when one of `roots` does not exist.
    pub fn new(roots: &[u32]) -> Result<Self, LoadError> {
        for pid in roots {
            fs::metadata(format!("/proc/{pid}/stat")).map_err(|_| LoadError::NoProcess(*pid))?;
        }
        Ok(Self { roots: roots.to_vec() })
    }

    /// Whether there is nothing to measure.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// CPU time used so far by all threads, user and system, those that have ended included (to 10 ms).
    #[must_use]
    pub fn cpu(&self) -> Duration {
        ticks_to_time(self.tree().iter().filter_map(|pid| stat(*pid)).map(|stat| stat.ticks).sum())
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn resident(&self) -> u64 {
        self.tree().iter().map(|pid| resident(*pid)).sum()
    }

    fn tree(&self) -> BTreeSet<u32> {
        let mut tree: BTreeSet<u32> = self.roots.iter().copied().collect();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let parents: Vec<(u32, u32)> = all
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, stat(pid)?.parent)))
            .collect();
        loop {
            let before = tree.len();
            let children = parents.iter().filter(|(_, parent)| tree.contains(parent)).map(|(pid, _)| *pid);
            let children: Vec<_> = children.collect();
            tree.extend(children);
            if tree.len() == before {
                return tree;
            }
        }
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): the name in brackets may hold anything, the fields after it are numbers.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks: number(11)? + number(12)? })
}

/// `smaps_rollup` is exact; `status` lags behind by up to some pages per CPU, but needs no right to trace.
fn resident(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let found = rollup.as_deref().and_then(|text| kibibytes(text, "Rss:"));
    let status = || fs::read_to_string(format!("/proc/{pid}/status")).ok();
    found.or_else(|| kibibytes(&status()?, "VmRSS:")).unwrap_or(0) * 1024
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// CPU time of the calling thread, which is the whole generator.
#[must_use]
pub fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time that all programs and the kernel have used on this machine so far (to 10 ms per CPU).
#[must_use]
pub fn machine_cpu() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    ticks_to_time(parse_machine(&text).unwrap_or(0))
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
fn parse_machine(text: &str) -> Option<u64> {
    let fields = text.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let fields: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    Some([0, 1, 2, 5, 6, 7].into_iter().filter_map(|index| fields.get(index)).sum())
}

fn ticks_to_time(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second))
}

/// Binds the calling thread to one CPU.
///
/// # Errors
/// [`LoadError::Pin`] when there is no such CPU.
pub fn pin(cpu: usize) -> Result<(), LoadError> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(LoadError::Pin { cpu, reason: rustix::io::Errno::INVAL.into() });
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| LoadError::Pin { cpu, reason: errno.into() })
}

/// Raises the soft limit of open files to the hard one, for many clients.
pub fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refusal is no harm: opening one file too many says so itself.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_spaces_do_not_shift_the_fields() {
        let text = "12 (a) b (c)) S 7 1 1 0 -1 4194560 1 2 3 4 50 25 9 9 20 0 3 0 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 75));
        assert!(parse_stat("12 (x) S 7").is_none());
    }

    #[test]
    fn idle_time_is_no_use_of_the_machine() {
        assert_eq!(parse_machine("cpu  1 2 4 1000 1000 8 16 32 0 0\ncpu0 9 9\n"), Some(63));
        assert_eq!(parse_machine("intr 1"), None);
        assert!(machine_cpu() > Duration::ZERO);
    }

    #[test]
    fn this_process_has_memory_time_and_children() {
        let me = Processes::new(&[std::process::id()]).unwrap();
        let before = me.resident();
        assert!(before > 100 * 1024);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(me.tree().contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(own_cpu() > Duration::ZERO);
    }

    #[test]
    fn a_missing_process_is_an_error() {
        assert!(matches!(Processes::new(&[u32::MAX]), Err(LoadError::NoProcess(_))));
    }
}
