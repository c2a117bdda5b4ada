//! What the tests need on a machine besides Rust, and how to get it.
//!
//! On Debian and its kin missing packages are installed, when this process may do so. Everywhere else the user is told
//! exactly what to install, and the run fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Result, bail};

use crate::run::{output, program, run};

/// What both Kafka versions of the harness run on.
const OLDEST_JAVA: u32 = 17;

/// A program that must be in `PATH`.
struct Need {
    program: &'static str,
    /// The Debian package that brings it.
    package: &'static str,
    purpose: &'static str,
}

/// Counts instructions.
const VALGRIND: Need =
    Need { program: "valgrind", package: "valgrind", purpose: "counts instructions" };

const NEEDS: [Need; 10] = [
    Need { program: "mvn", package: "maven", purpose: "fetches the real Kafka's jars" },
    Need { program: "xz", package: "xz-utils", purpose: "unpacks the real PostgreSQL" },
    Need {
        program: "kcat",
        package: "kcat",
        purpose: "a second Kafka client, to test the dev broker with",
    },
    Need { program: "go", package: "golang-go", purpose: "builds the S3 server of the tests" },
    Need { program: "openssl", package: "openssl", purpose: "makes the certificates of TLS tests" },
    Need {
        program: "python3",
        package: "python3",
        purpose: "runs the example receiver of the http sink",
    },
    Need { program: "cc", package: "gcc", purpose: "builds librdkafka, OpenSSL and zstd" },
    Need { program: "c++", package: "g++", purpose: "builds librdkafka" },
    Need { program: "make", package: "make", purpose: "builds librdkafka and OpenSSL" },
    Need { program: "perl", package: "perl", purpose: "configures OpenSSL" },
];

/// Sees to it that everything is there. Returns the home of a Java that will do, if the one in `PATH` will not.
pub(crate) fn provide() -> Result<Option<PathBuf>> {
    let before = missing();
    if !before.is_empty() {
        install(&before)?;
        let after = missing();
        if !after.is_empty() {
            bail!("still missing after the installation: {}", names(&after));
        }
    }
    Ok(java_home())
}

/// Sees to it that instructions can be counted.
pub(crate) fn provide_valgrind() -> Result<()> {
    if in_path(VALGRIND.program) {
        return Ok(());
    }
    install(&[(VALGRIND.program.to_owned(), VALGRIND.package, VALGRIND.purpose)])
}

/// The home of a Java that will do, for `JAVA_HOME`; nothing when the plain `java` will do, or when there is none.
pub(crate) fn java_home() -> Option<PathBuf> {
    // A JAVA_HOME of the user's comes before the `java` in PATH, as everywhere.
    let users = env::var_os("JAVA_HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
        .filter(|home| is_java_home(home));
    if users.is_some() || is_java(Path::new("java")) {
        return users;
    }
    let mut homes: Vec<PathBuf> = fs::read_dir("/usr/lib/jvm")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    homes.sort();
    homes.into_iter().find(|home| is_java_home(home))
}

/// What is missing: program, Debian package, purpose.
type Missing = (String, &'static str, &'static str);

fn missing() -> Vec<Missing> {
    let mut missing: Vec<Missing> = NEEDS
        .iter()
        .filter(|need| !in_path(need.program))
        .map(|need| (need.program.to_owned(), need.package, need.purpose))
        .collect();
    if java_home().is_none() && !is_java(Path::new("java")) {
        let java = format!("Java {OLDEST_JAVA} or later");
        missing.push((java, "default-jre-headless", "runs the real Kafka"));
    }
    missing
}

fn install(missing: &[Missing]) -> Result<()> {
    for (program, _, purpose) in missing {
        eprintln!("missing: {program} ({purpose})");
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package, _)| *package).collect();
    if !in_path("apt-get") {
        bail!("install {} with your system's package manager, then run this again", names(missing));
    }
    if output(program("id").arg("-u"))?.trim() != "0" {
        let packages = packages.join(" ");
        bail!("run this first: sudo apt-get update && sudo apt-get install --yes {packages}");
    }
    if apt_install(&packages).is_ok() {
        return Ok(());
    }
    run(program("apt-get").args(["--quiet", "update"]))?;
    apt_install(&packages)
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let mut command = program("apt-get");
    command.args(["--quiet", "--yes", "--no-install-recommends", "install"]).args(packages);
    run(command.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn names(missing: &[Missing]) -> String {
    let names: Vec<&str> = missing.iter().map(|(program, ..)| program.as_str()).collect();
    names.join(", ")
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn is_java_home(home: &Path) -> bool {
    is_java(&home.join("bin/java"))
}

fn is_java(java: &Path) -> bool {
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    text.ok().and_then(|text| java_version(&text)).is_some_and(|version| version >= OLDEST_JAVA)
}

/// The feature release in what `java -version` prints: 17 for `"17.0.15"`, 8 for `"1.8.0_292"`.
fn java_version(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let first = numbers.next()?.ok()?;
    if first == 1 { numbers.next()?.ok() } else { Some(first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read_in_both_of_their_forms() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(java_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(java_version("java version \"1.8.0_292\""), Some(8));
        assert_eq!(java_version("bash: java: command not found"), None);
    }
}
