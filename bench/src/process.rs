//! Owns what is read of a peer's processes: who they are, their CPU time, their memory.

use std::fs;
use std::io;
use std::time::Duration;

use crate::sys;

/// Pid and parent of a process, from a line of /proc/PID/stat.
fn parse_stat(line: &str) -> Option<(u32, u32)> {
    let (pid, rest) = line.split_once(' ')?;
    // The name may hold spaces and parentheses: what follows begins behind the last one.
    let (_, fields) = rest.rsplit_once(") ")?;

    Some((pid.parse().ok()?, fields.split(' ').nth(1)?.parse().ok()?))
}

/// The proportional set size in KiB, from /proc/PID/smaps_rollup.
fn parse_pss(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn all_processes() -> io::Result<Vec<(u32, u32)>> {
    let mut found = Vec::new();

    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();

        if name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            // One that has ended meanwhile is none.
            let line = fs::read_to_string(format!("/proc/{}/stat", name.to_string_lossy()));
            found.extend(line.ok().as_deref().and_then(parse_stat));
        }
    }

    Ok(found)
}

/// The root and all that descend from it.
fn descend(root: u32, all: &[(u32, u32)]) -> Vec<u32> {
    let mut family = vec![root];
    let mut next = 0;

    while let Some(&parent) = family.get(next) {
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid));
        next += 1;
    }

    family
}

/// A process and its descendants.
pub fn family(root: u32) -> io::Result<Vec<u32>> {
    Ok(descend(root, &all_processes()?))
}

/// The CPU time of all of them together.
pub fn cpu(family: &[u32]) -> Duration {
    family.iter().filter_map(|pid| sys::process_cpu(*pid).ok()).sum()
}

/// The memory of all of them together, in KiB: what is shared counts once.
pub fn pss(family: &[u32]) -> io::Result<u64> {
    let mut sum = 0;

    for pid in family {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path)
            .map_err(|error| io::Error::other(format!("{path}: {error}")))?;

        sum += parse_pss(&text).ok_or_else(|| io::Error::other(format!("no Pss in {path}")))?;
    }

    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_with_a_strange_name() {
        assert_eq!(parse_stat("42 (a) b (c)) S 7 42 42 0 -1 4194560"), Some((42, 7)));
        assert_eq!(parse_stat("42 (nginx) S"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn pss_line() {
        let text = "5651-7ffe ---p 00000000 00:00 0   [rollup]\n\
                    Rss:                1764 kB\nPss:                 446 kB\nPss_Dirty: 112 kB\n";
        assert_eq!(parse_pss(text), Some(446));
        assert_eq!(parse_pss("Pss_Dirty: 112 kB\n"), None);
    }

    #[test]
    fn descendants_of_descendants() {
        let all = [(1, 0), (5, 1), (6, 5), (7, 6), (8, 1), (9, 5)];
        assert_eq!(descend(5, &all), [5, 6, 9, 7]);
        assert_eq!(descend(8, &all), [8]);
    }

    #[test]
    fn own_family() {
        let me = std::process::id();
        let family = family(me).unwrap_or_default();

        assert_eq!(family.first(), Some(&me));
        assert!(cpu(&family) > Duration::ZERO);
        assert!(pss(&[me]).unwrap_or_default() > 100);
    }
}
