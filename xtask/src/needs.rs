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

/// The minor release of Go 1 from which on it fetches the newer Go that a module wants.
const OLDEST_GO: u32 = 21;

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

const NEEDS: [Need; 9] = [
    Need { program: "mvn", package: "maven", purpose: "fetches the real Kafka's jars" },
    Need { program: "xz", package: "xz-utils", purpose: "unpacks the real PostgreSQL" },
    Need {
        program: "kcat",
        package: "kcat",
        purpose: "a second Kafka client, to test the dev broker with",
    },
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

/// What the nodes of the Kubernetes of the tests make pods with, and what these run.
const KUBE_NEEDS: [Need; 6] = [
    Need { program: "flock", package: "util-linux", purpose: "lets one process build at a time" },
    Need { program: "setpriv", package: "util-linux", purpose: "ends pods with their node" },
    Need { program: "unshare", package: "util-linux", purpose: "makes the namespaces of pods" },
    Need { program: "nsenter", package: "util-linux", purpose: "runs probes in pods" },
    Need { program: "mount", package: "mount", purpose: "mounts the volumes of pods" },
    Need { program: "python3", package: "python3", purpose: "runs the servers in test pods" },
];

/// Sees to it that everything is there. Returns the home of a Java that will do, if the one in `PATH` will not.
pub(crate) fn provide() -> Result<Option<PathBuf>> {
    install_what_is(missing)?;
    Ok(java_home())
}

/// Can processes have namespaces of their own here? Pods need that.
pub(crate) fn can_make_pods() -> bool {
    let arguments = ["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "pods", "/tmp"];
    let made = Command::new("unshare").args(arguments).stderr(Stdio::null()).status();
    made.is_ok_and(|made| made.success())
}

/// Sees to it that a Kubernetes can be built, and its pods run.
pub(crate) fn provide_for_kube() -> Result<()> {
    if !is_root()? {
        bail!("pods are processes in namespaces, which only root can make: run this as root");
    }
    install_what_is(|| absent(&KUBE_NEEDS).chain(missing_go()).collect())
}

fn install_what_is(missing: impl Fn() -> Vec<Missing>) -> Result<()> {
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    install(&before)?;
    let after = missing();
    if !after.is_empty() {
        bail!("still missing after the installation: {}", names(&after));
    }
    Ok(())
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
    let mut missing: Vec<Missing> = absent(&NEEDS).chain(missing_go()).collect();
    if java_home().is_none() && !is_java(Path::new("java")) {
        let java = format!("Java {OLDEST_JAVA} or later");
        missing.push((java, "default-jre-headless", "runs the real Kafka"));
    }
    missing
}

fn absent(needs: &[Need]) -> impl Iterator<Item = Missing> {
    let absent = needs.iter().filter(|need| !in_path(need.program));
    absent.map(|need| (need.program.to_owned(), need.package, need.purpose))
}

fn missing_go() -> Option<Missing> {
    let output = Command::new("go").arg("version").stdin(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = text.ok().and_then(|text| go_version(&text));
    let go = format!("Go 1.{OLDEST_GO} or later");
    let purpose = "builds the S3 server and the Kubernetes of the tests";
    version.is_none_or(|minor| minor < OLDEST_GO).then_some((go, "golang-go", purpose))
}

fn install(missing: &[Missing]) -> Result<()> {
    for (program, _, purpose) in missing {
        eprintln!("missing: {program} ({purpose})");
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package, _)| *package).collect();
    if !in_path("apt-get") {
        bail!("install {} with your system's package manager, then run this again", names(missing));
    }
    if !is_root()? {
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

fn is_root() -> Result<bool> {
    Ok(output(program("id").arg("-u"))?.trim() == "0")
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

/// The minor release in what `go version` prints: 26 for `go1.26.8`.
fn go_version(text: &str) -> Option<u32> {
    let (_, minor) = text.split_once("go1.")?;
    minor.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_read() {
        assert_eq!(go_version("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(go_version("go version go1.23rc1 linux/arm64"), Some(23));
        assert_eq!(go_version("bash: go: command not found"), None);
    }

    #[test]
    fn java_versions_are_read_in_both_of_their_forms() {
        assert_eq!(java_version("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(java_version("openjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(java_version("java version \"1.8.0_292\""), Some(8));
        assert_eq!(java_version("bash: java: command not found"), None);
    }
}
