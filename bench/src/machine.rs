//! Owns the sentence that says what was measured, and on what.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::network::Network;
use crate::options::Options;
use crate::peer::LIBRARIES;

/// Debian's packages of the peers.
const PACKAGES: [&str; 5] = ["haproxy", "squid", "trafficserver", "apache2", "tinyproxy"];

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn nginx_version(nginx: &Path) -> Option<String> {
    let output = Command::new(nginx).arg("-v").env_remove("NGINX").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(text.trim().rsplit_once('/')?.1.to_owned())
}

/// What the peers with OpenSSL load.
fn openssl_version(folder: Option<&Path>) -> Option<String> {
    let mut command = Command::new("openssl");
    command.arg("version").envs(folder.map(|folder| (LIBRARIES, folder)));

    let text = String::from_utf8(command.output().ok()?.stdout).ok()?;
    let library = text.split("(Library: ").nth(1)?;
    Some(library.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

fn package_versions() -> Vec<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${Version}\\n"])
        .args(PACKAGES)
        .output();

    // Elsewhere than on Debian there is nobody to ask.
    let text = output.map(|output| output.stdout).unwrap_or_default();

    String::from_utf8_lossy(&text)
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|version| !version.is_empty()))
        .map(str::to_owned)
        .collect()
}

/// How many CPUs there are, whether the driver may use them or not.
fn count_cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    text.lines().filter(|line| line.starts_with("processor")).count().max(1)
}

/// Rounds and time, machine and network, versions.
pub fn about(options: &Options, network: &Network, rounds: usize, took: Duration) -> String {
    let processor = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| field(&text, "model name"))
        .unwrap_or_else(|| "a processor without a name".into());
    let cores = count_cores();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();

    let mut versions = Vec::new();
    let core = options.core.as_ref().map_or_else(String::new, |core| format!(" ({core} core)"));
    versions.extend(nginx_version(&options.nginx).map(|version| format!("nginx {version}{core}")));

    if let Some(version) = options.tunnel_nginx.as_deref().and_then(nginx_version) {
        versions.push(format!("nginx {version} for its tunnel module"));
    }

    versions.extend(openssl_version(options.openssl.as_deref()));
    versions.extend(package_versions());

    format!(
        "Medians of {rounds} round{}, {} s in all; in each {} windows of {} ms, {} times {} connects, \
         {} idle tunnels. {cores} core{} of {processor}, Linux {}; {}. {}.",
        if rounds == 1 { "" } else { "s" },
        took.as_secs(),
        options.extent.turns,
        options.extent.window.as_millis(),
        options.extent.connect_turns,
        options.extent.connects,
        options.extent.idle,
        if cores == 1 { "" } else { "s" },
        kernel.trim(),
        network.about(),
        versions.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.40GHz\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU @ 2.40GHz"));
        assert_eq!(field(text, "cache size"), None);
    }
}
