//! The stages of CI that are little more than one call of cargo.

use std::process::Command;
use std::{env, process};

use anyhow::{Context, Result};

use crate::run::{cargo, metadata, packages, program, run, target_directory};
use crate::{needs, servers};

/// The simulator's part of CI. Enough seeds to meet each kind of fault often, few enough for a minute.
const SEEDS: &str = "500";

/// Formats all code, or fails if some is not formatted.
pub(crate) fn fmt(fix: bool) -> Result<()> {
    let check: &[&str] = if fix { &[] } else { &["--check"] };
    run(cargo().args(["fmt", "--all"]).args(check))
}

/// Runs all tests, those on a real Kafka and a real PostgreSQL included, after having seen to what they need.
///
/// Test binaries share one cluster or server for each version and size; it is wiped as soon as this process has ended.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    let java_home = needs::provide()?;
    for server in [servers::KAFKA, servers::POSTGRES, servers::S3] {
        server.fetch(java_home.as_deref())?;
    }
    let mut command = cargo();
    command.env("INSTA_UPDATE", "no").env("TIDEGATE_TEST_OWNER", process::id().to_string());
    if let Some(home) = java_home {
        command.env("JAVA_HOME", home);
    }
    // Without a choice of the caller: all crates, and all failures rather than the first. Doc tests are included.
    if arguments.is_empty() {
        command.args(["test", "--workspace", "--no-fail-fast"]);
    } else {
        command.arg("test").args(arguments);
    }
    run(&mut command)
}

/// The tests on a real Kubernetes: of its nodes, of the consumers' objects, and of groups.
const ON_KUBE: [&str; 12] = [
    "--test",
    "pods",
    "--test",
    "cluster",
    "--test",
    "workers",
    "--test",
    "rights",
    "--test",
    "resource",
    "--test",
    "kubernetes",
];

/// Runs the tests on a real Kubernetes. They are apart from the others, which ignore them, because the first build of
/// Kubernetes costs a quarter of an hour of CPU, and because they need root.
pub(crate) fn kube(arguments: &[String]) -> Result<()> {
    servers::KUBE.fetch(None)?;
    run(test_on_kube()?.args(ON_KUBE).args(["--test", "operator"]).args(arguments).args([
        "--",
        "--ignored",
        "--skip",
        "figures_",
    ]))
}

/// Those of them that take minutes and not a quarter of an hour.
pub(crate) fn kube_in_ci() -> Result<()> {
    run(test_on_kube()?.args(ON_KUBE).args(["--", "--ignored"]))
}

/// Measures on a real Kubernetes, optimised as what is shipped is.
pub(crate) fn kube_bench() -> Result<()> {
    servers::KUBE.fetch(None)?;
    let mut command = test_on_kube()?;
    // `pods` is only there because the nodes are built with it.
    command.args(["--release", "--test", "operator", "--test", "pods"]);
    // One after the other: they share the processors.
    run(command.args(["--", "--ignored", "--nocapture", "--test-threads", "1", "figures_"]))
}

/// All crates, so that those of other tests need not be built anew with other features.
fn test_on_kube() -> Result<Command> {
    needs::provide_for_kube()?;
    let mut command = cargo();
    command.env("TIDEGATE_TEST_OWNER", process::id().to_string());
    command.args(["test", "--workspace", "--no-fail-fast"]);
    Ok(command)
}

/// Lints everything. `-D warnings` goes to clippy alone, so that no other command has to build anew.
pub(crate) fn clippy() -> Result<()> {
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// Builds the API documentation.
pub(crate) fn doc() -> Result<()> {
    let mut flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    flags.push_str(" -D warnings");
    run(cargo().args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", flags.trim()))
}

/// Checks each crate by itself: built together, crates lend each other features of their dependencies.
pub(crate) fn alone() -> Result<()> {
    for package in packages(&metadata()?)? {
        let name = package["name"].as_str().context("a package without a name")?;
        run(cargo().args(["check", "--quiet", "--package", name]))?;
    }
    Ok(())
}

/// Fills the root folder of the image by the commands of the Dockerfile, and runs the program with nothing else to be seen.
pub(crate) fn image() -> Result<()> {
    const BUILD: [&str; 8] =
        ["build", "--profile", "dist", "--locked", "--package", "tidegate", "--bin", "tidegate"];
    run(cargo().args(BUILD).env("LIBZ_SYS_STATIC", "1"))?;
    let target = target_directory()?;
    let root = format!("{target}/image");
    if std::fs::exists(&root)? {
        std::fs::remove_dir_all(&root)?;
    }
    run(program("deploy/image-root").arg(format!("{target}/dist/tidegate")).arg(&root))?;
    let alone = ["--userspec=65532:65532", &root, "/usr/local/bin/tidegate", "--version"];
    run(program("chroot").args(alone))
}

/// Runs the simulator.
pub(crate) fn sim(arguments: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "tidegate-sim",
        "--bin",
        "sim",
        "--",
    ]);
    if arguments.is_empty() {
        command.args(["--seeds", SEEDS]);
    }
    run(command.args(arguments))
}

/// Runs the model checker, and looks whether it finds the planted defects. Both with the same build.
pub(crate) fn model(arguments: &[String]) -> Result<()> {
    const BUILD: [&str; 5] = ["--release", "--package", "tidegate-model", "--features", "mutants"];
    run(cargo()
        .args(["run", "--quiet"])
        .args(BUILD)
        .args(["--bin", "model", "--"])
        .args(arguments))?;
    run(cargo().args(["test", "--quiet"]).args(BUILD).args(["--test", "mutants"]))
}

/// The chaos part of CI: long enough for every kind of fault.
const CHAOS: [&str; 4] = ["--broker", "embedded", "--minutes", "3"];

/// Runs real processes under real faults: both programs are built, and the one finds the other beside it.
pub(crate) fn chaos(arguments: &[String]) -> Result<()> {
    run(cargo().args(["build", "--package", "tidegate", "--package", "tidegate-chaos"]))?;
    let mut command = chaos_program()?;
    if let Some(home) = needs::java_home() {
        command.env("JAVA_HOME", home);
    }
    run(command.args(arguments))
}

/// The same for CI, which has just built all of it for the tests: with the same choice of packages nothing is built twice.
pub(crate) fn chaos_in_ci() -> Result<()> {
    run(cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
    run(chaos_program()?.args(CHAOS))
}

fn chaos_program() -> Result<Command> {
    Ok(program(&format!("{}/debug/chaos", target_directory()?)))
}

/// Is there a simulator to run?
pub(crate) fn has_simulator() -> Result<bool> {
    let metadata = metadata()?;
    let targets = packages(&metadata)?.iter().filter(|package| package["name"] == "tidegate-sim");
    let mut targets = targets.filter_map(|package| package["targets"].as_array()).flatten();
    Ok(targets.any(|target| target["name"] == "sim" && target["kind"][0] == "bin"))
}
